import { expect } from 'vitest';
import { type Journey, type JourneyOptions, setOut } from './journey.ts';
import { both, bothMayBoot, bothOf, publishBoth, untilPhase } from './journey-good.ts';

/** The way back: what it starts from and where it has to end, whatever went wrong in between. */

export const ONLY_A = { order: ['A', 'B'], A: { ok: true, tries: 0 }, B: { ok: false, tries: 0 }, trial: '' } as const;

/** A host with components 1.0.1, and release 1.1.0 installed and armed: the same components and an image. */
export async function armedJourney(options: JourneyOptions, image: string): Promise<Journey> {
  const journey = await setOut(options);
  const { host } = journey;
  await publishBoth(journey, '1.0.1');
  await host.boot();
  const firstApply = await host.update('apply');
  expect(firstApply, firstApply.output).toMatchObject({ exitCode: 0 });
  await publishBoth(journey, '1.1.0', image);
  expect(await host.update('apply')).toMatchObject({ exitCode: 4 });
  expect(await bothOf(journey)).toEqual(both('1.1.0'));
  return journey;
}

/** Slot A runs, what came with the image is gone, and the release is not taken again by itself. */
export async function expectFallenBack(journey: Journey): Promise<void> {
  const { host } = journey;
  expect((await host.boot()).slot).toBe('A');
  await untilPhase(journey, 'rolledBack');
  expect(await bothOf(journey)).toEqual(both('1.0.1'));
  expect(await host.environment()).toMatchObject(ONLY_A);
  expect(await host.memory()).toMatchObject({ committed: { version: '1.0.1' }, bad: [{ version: '1.1.0' }] });
  expect(await host.ask('status')).toMatchObject({ status: 'error', currentVersion: '1.0.1' });
  expect(await host.run('qx-update', 'check')).toMatchObject({ exitCode: 5 });
  expect(await host.run('qx-update', 'apply')).toMatchObject({ exitCode: 5 });
}

/** From a confirmed slot B, by an operator: components now, the slot with the next boot; and nothing is left to take back. */
export async function expectTakenBackByHand(journey: Journey): Promise<void> {
  const { host } = journey;
  expect(await host.update('rollback')).toMatchObject({ exitCode: 4 });
  expect(await bothOf(journey)).toEqual(both('1.0.1'));
  expect(await host.environment()).toEqual(bothMayBoot('A', 'B'));
  await host.powerOff();
  expect((await host.boot()).slot).toBe('A');
  expect(await host.ask('status')).toMatchObject({ currentVersion: '1.0.1' });
  expect(await host.ask('current')).toMatchObject({ osVersion: '1.0.0', qxConsole: '1.0.1', hostUi: '1.0.1' });
  expect(await host.update('check')).toMatchObject({ exitCode: 5 });
  expect(await host.run('qx-update', 'rollback')).toMatchObject({ exitCode: 3 });
}
