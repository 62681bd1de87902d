import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { expectFallenBack } from '../support/journey-fallback.ts';
import { requires } from '../support/requires.ts';
import { armedHosts } from './armed.ts';
import { bootSettings, type Damage, flipped, imageInSlot, inSlot, layout, nodeSettings } from './damage.ts';
import { addFaults } from './faults.ts';
import { vmImages } from './guest.ts';
import { VM } from './machine.ts';
import { expectWayBack, type WayBack } from './scenario.ts';
import { untilReset } from './stuck.ts';

const SOON = bootSettings('deadline_s=20\ngrace_s=5\n');
/** Also for slot A afterwards, whose agent has to be up by then on a busy machine too. */
const IMPATIENT = nodeSettings((yaml) =>
  yaml.replace(/health_timeout: .*/, 'health_timeout: 90s\n  health_attempts: 1'),
);
const MIB = 1 << 20;
/** The last that GRUB says before it hands over: it has read the initramfs. */
const READ = /MiB\s+Elapsed time: \S+ s\s+Speed: .*\n/;
/** Thirty seconds, the longest that it knows. */
const START_IB700 = 'outb 0x443 0x0\n';

requires(VM)('a release that does not come up', () => {
  const imageOf = vmImages({ compression: 'xz, of boot alone' });
  const armed = armedHosts(imageOf);

  /** Slot B holds another image than the one that was verified. */
  const withTree =
    (name: string, change: (tree: string) => Promise<void>): Damage =>
    async (machine) =>
      imageInSlot((await imageOf(`1.1.0-${name}`, change)).image)(machine);
  const half: Damage = async (machine) => {
    const { length } = await readFile((await imageOf('1.1.0', addFaults)).image);
    await inSlot(Buffer.alloc(length >> 1), length >> 1)(machine);
  };

  const halting = withTree('halts', async (tree) => {
    const file = join(tree, 'boot/vmlinuz');
    const bytes = await readFile(file);
    const middle = bytes.length >> 1;
    // LZ4 has no checksum, and a few zeros may lie where nobody notices; so many are no sequence that could be unpacked.
    await writeFile(file, bytes.fill(0, middle, middle + MIB));
  });

  const rows: readonly WayBack[] = [
    { what: 'the kernel panics in its initramfs', fault: 'kernel-panics', boots: 3 },
    {
      what: 'the kernel panics because its initramfs is noise',
      damage: withTree('noise', (tree) => writeFile(join(tree, 'boot/initramfs'), randomBytes(MIB))),
      boots: 3,
      code: 'READBACK_MISMATCH',
    },
    { what: 'the initramfs gives up', fault: 'initramfs-panics', boots: 3 },
    {
      what: 'the kernel is damaged, and stops as it unpacks itself',
      damage: halting,
      boots: 3,
      hangsAfter: READ,
      code: 'READBACK_MISMATCH',
    },
    { what: 'the initramfs hangs', fault: 'initramfs-hangs', boots: 3, hangsAfter: /initramfs: hangs/ },
    { what: 'process 1 hangs', fault: 'init-hangs', boots: 3, hangsAfter: /init: hangs/ },
    { what: 'the slot is full of zeros', damage: inSlot(Buffer.alloc(256 * MIB)), boots: 0, code: 'READBACK_MISMATCH' },
    { what: 'the slot is full of noise', damage: inSlot(randomBytes(8 * MIB)), boots: 0, code: 'READBACK_MISMATCH' },
    { what: 'the image ends in the middle', damage: half, boots: 0, code: 'READBACK_MISMATCH' },
    { what: 'one byte of the initramfs is another one', damage: flipped(20_000), boots: 0, code: 'READBACK_MISMATCH' },
    {
      what: 'there is no kernel in the image',
      damage: withTree('bare', (tree) => rm(join(tree, 'boot/vmlinuz'))),
      boots: 0,
      code: 'READBACK_MISMATCH',
    },
    { what: 'the agent dies again and again', fault: 'agent-dies', damage: IMPATIENT, boots: 1 },
    { what: 'the agent is a stump', fault: 'agent-is-a-stump', damage: SOON, boots: 3 },
    { what: 'a program of the health gate hangs', fault: 'hook-hangs', damage: IMPATIENT, boots: 1 },
    { what: 'the boot partition cannot be written to', fault: 'boot-is-read-only', damage: SOON, boots: 3 },
    {
      what: 'everything stops, and a watchdog sees it',
      fault: 'everything-stops',
      boots: 3,
      code: 'TRIAL_INTERRUPTED',
    },
  ];

  for (const row of rows) test(`${row.what}: slot A boots again`, () => expectWayBack(armed, row));

  test('the kernel is damaged, and a watchdog that GRUB started resets the machine: slot A boots again', async () => {
    const damage: Damage = async (machine) => {
      await halting(machine);
      await layout(START_IB700)(machine);
    };
    const { place, withOther } = await armed({ damage, qemu: ['-device', 'ib700'] });
    for (let boot = 1; boot <= 3; boot++) expect(await untilReset(place, 90_000)).toBe('B');
    // Nobody could stop it: Debian's kernel for clouds has no driver for one.
    await expectFallenBack(await withOther([]));
  });
});
