import { test } from 'vitest';
import { requires } from '../support/requires.ts';
import { armedHosts } from './armed.ts';
import { flipped } from './damage.ts';
import { vmImages } from './guest.ts';
import { VM } from './machine.ts';
import { expectWayBack, type WayBack } from './scenario.ts';

/** The rows that are worth their minutes whenever anything changes, these and hangs.test.ts; the others are in `*.all.ts`. */
const ROWS: readonly WayBack[] = [
  { what: 'process 1 gives up, and the kernel panics', fault: 'init-panics', boots: 3 },
  { what: 'one byte of the initramfs is another one', damage: flipped(20_000), boots: 0, code: 'READBACK_MISMATCH' },
];

requires(VM)('a trial', () => {
  const imageOf = vmImages({ compression: 'xz, of boot alone' });
  const armed = armedHosts(imageOf);

  for (const row of ROWS) test(`${row.what}: slot A boots again`, () => expectWayBack(armed, row));
});
