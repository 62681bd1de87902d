import { test } from 'vitest';
import { expectGoodRelease } from '../support/journey-release.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { IN_QEMU, SLOW, VM } from './machine.ts';

requires(VM)('a whole release on a machine with a kernel of its own', () => {
  const imageOf = vmImages();

  test('a good release is confirmed', () => expectGoodRelease(imageOf, { stage: IN_QEMU, settings: SLOW }));
});
