import { expect, test } from 'vitest';
import type { Journey } from '../support/journey.ts';
import { ONLY_A } from '../support/journey-fallback.ts';
import { untilPhase } from '../support/journey-good.ts';
import { asAncestor, expectAncestorUpdated } from '../support/journey-layout.ts';
import { requires } from '../support/requires.ts';
import { addFaults, told } from './faults.ts';
import { vmImages } from './guest.ts';
import { installedHost } from './installed.ts';
import { type Setup, SLOW, VM } from './machine.ts';

requires(VM)('slots that are file systems', () => {
  const imageOf = vmImages();

  const armed = async (setup: Setup = {}): Promise<Journey> =>
    installedHost({
      first: await asAncestor(await imageOf('1.0.0')),
      settings: SLOW,
      setup,
      publish: async ({ desk, server }) => {
        await desk.publish(server, { version: '1.1.0', image: (await imageOf('1.1.0', addFaults)).image });
        return ['1.1.0'];
      },
    });

  test('the new one is an ext4 too, GRUB boots it, it is confirmed', async () => {
    await expectAncestorUpdated(await armed(), (await imageOf('1.1.0', addFaults)).image);
  });

  test('three panics and the old one boots again', async () => {
    const journey = await armed({ more: told('init-panics') });
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
