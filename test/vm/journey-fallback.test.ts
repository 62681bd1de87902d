import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { armedJourney, expectFallenBack } from '../support/journey-fallback.ts';
import { requires } from '../support/requires.ts';
import { vmImages } from './guest.ts';
import { IN_QEMU, SLOW, VM } from './machine.ts';

requires(VM)('the way back on a machine with a kernel of its own', () => {
  const imageOf = vmImages();

  test('three panics and the old slot boots again', async () => {
    const first = await imageOf('1.0.0');
    const { image } = await imageOf('1.1.0', async (tree) => {
      await rm(join(tree, 'sbin/init'));
      await writeFile(join(tree, 'sbin/init'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    });
    const journey = await armedJourney({ first, stage: IN_QEMU, settings: SLOW }, image);
    const { host } = journey;
    await host.goDown();
    for (let boot = 1; boot <= 3; boot++) expect(await host.bootUntilItEnds()).toBe('B');
    await expectFallenBack(journey);
  });
});
