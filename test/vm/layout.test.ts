import { expect, test } from 'vitest';
import { ONLY_A } from '../support/journey-fallback.ts';
import { untilPhase } from '../support/journey-good.ts';
import { armedAncestor, expectAncestorUpdated } from '../support/journey-layout.ts';
import { requires } from '../support/requires.ts';
import { addFaults, told } from './faults.ts';
import { vmImages } from './guest.ts';
import { IN_QEMU, inQemu, SLOW, VM } from './machine.ts';

requires(VM)('slots that are file systems', () => {
  const imageOf = vmImages();

  test('the new one is an ext4 too, GRUB boots it, it is confirmed', async () => {
    const { image } = await imageOf('1.1.0', addFaults);
    const journey = await armedAncestor(imageOf, image, { stage: IN_QEMU, settings: SLOW });
    await expectAncestorUpdated(journey, image);
  });

  test('three panics and the old one boots again', async () => {
    const { image } = await imageOf('1.1.0', addFaults);
    const stage = inQemu({ more: told('init-panics') });
    const journey = await armedAncestor(imageOf, image, { stage, settings: SLOW });
    const { host } = journey;
    for (let boot = 1; boot <= 3; boot++) expect(await host.bootUntilItEnds()).toBe('B');
    expect((await host.boot()).slot).toBe('A');
    await untilPhase(journey, 'rolledBack');
    expect(await host.environment()).toMatchObject(ONLY_A);
    expect(await host.memory()).toMatchObject({ bad: [{ version: '1.1.0' }] });
    expect(await host.ask('status')).toMatchObject({ status: 'error', currentVersion: '1.0.0' });
    expect(await host.update('apply')).toMatchObject({ exitCode: 5 });
  });
});
