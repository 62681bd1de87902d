import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { startQemu } from '../../../scripts/support/vm/qemu.ts';
import { type ImageOf, type Journey, setOut } from '../../support/journey.ts';
import { publishBoth } from '../../support/journey-good.ts';
import { expectOneOfBoth } from '../../support/journey-power.ts';
import { momentsOf } from '../../support/moments.ts';
import { IN_QEMU, SLOW } from '../machine.ts';

/** QEMU, killed at random moments of one update after the other, from the order to the confirmed slot. */

export interface Kill {
  readonly id: string;
  /** Of the machine, which is switched off. */
  readonly disk: string;
  /** Starts it again and answers the slot that it runs. @throws Error when it is neither the old host nor the new one */
  survived(): Promise<'A' | 'B'>;
}

export async function* killsDuringUpdates(imageOf: ImageOf, seed: string, count: number): AsyncGenerator<Kill> {
  const journey = await setOut({ first: await imageOf('1.0.0'), stage: IN_QEMU, settings: SLOW });
  const { host } = journey;
  await publishBoth(journey, '1.0.1');
  await host.boot();
  expect(await host.update('apply')).toMatchObject({ exitCode: 0 });
  await publishBoth(journey, '1.1.0', (await imageOf('1.1.0')).image);
  const applyMs = await timeOf(async () => expect(await host.update('apply')).toMatchObject({ exitCode: 4 }));
  await host.goDown();
  const trialMs = await timeOf(async () => expect((await host.boot()).slot).toBe('B'));

  for (const [number, moment] of momentsOf(seed, count).entries()) {
    await backToA(journey);
    const afterMs = moment * (applyMs + trialMs);
    await killAfter(journey, afterMs, applyMs);
    const id = `kill ${number} after ${Math.round(afterMs)} ms (${Math.round(applyMs)} + ${Math.round(trialMs)})`;
    yield { id, disk: host.machine.disk, survived: () => expectSurvived(journey, id) };
  }
}

async function expectSurvived(journey: Journey, what: string): Promise<'A' | 'B'> {
  const { slot } = await expectOneOfBoth(journey, what);
  const verified = await journey.host.update('verify');
  expect(verified, `${what}: ${verified.output}`).toMatchObject({ exitCode: 0 });
  return slot;
}

async function timeOf(act: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await act();
  return performance.now() - startMs;
}

/** Whatever became of the update: slot A runs, nothing is under way, and each update has the whole way before it. */
async function backToA({ host }: Journey): Promise<void> {
  const phase = (await host.journal())?.phase;
  if (phase === 'complete' || phase === 'armed') {
    expect((await host.update('rollback')).exitCode).toBe(phase === 'armed' ? 0 : 4);
  }
  if (phase === 'complete') {
    await host.goDown();
    expect((await host.boot()).slot).toBe('A');
  }
  await host.update('reset', '--downloads');
}

async function killAfter(journey: Journey, afterMs: number, applyMs: number): Promise<void> {
  const { host } = journey;
  await host.untilAgentAnswers();
  // By its version, because it was taken back before.
  const applying = host.run('qx-update', 'apply', '--version', '1.1.0');
  const applied = await Promise.race([applying, sleep(Math.min(afterMs, applyMs))]);
  if (applied === undefined) {
    await host.cutPower();
    await applying;
    return;
  }
  expect(applied).toMatchObject({ exitCode: 4 });
  await host.goDown();
  const trial = await startQemu({ disk: host.machine.disk, logFile: join(journey.folder, 'trial.log') });
  await sleep(Math.max(0, afterMs - applyMs));
  await trial.kill();
}
