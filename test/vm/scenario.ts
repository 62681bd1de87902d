import { expect } from 'vitest';
import type { Journey } from '../support/journey.ts';
import { expectFallenBack } from '../support/journey-fallback.ts';
import { untilHealthy } from '../support/journey-good.ts';
import type { ArmedHosts, ArmedOptions } from './armed.ts';
import { untilPowerCut } from './stuck.ts';

/** A trial that comes to nothing: how often slot B is started, and what ends each of these starts. */
export interface WayBack extends ArmedOptions {
  readonly what: string;
  readonly boots: 0 | 1 | 3;
  /** The last that the console says, where nothing but the power button ends a start. Without it each ends by itself. */
  readonly hangsAfter?: RegExp;
  /** How the update ends for the operator; UNHEALTHY without it. */
  readonly code?: 'READBACK_MISMATCH' | 'TRIAL_INTERRUPTED';
}

/** Longer than the ten seconds after which a panic restarts; no deadline is armed where a start hangs. */
const HANGS_FOR_MS = 30_000;

export async function expectWayBack(
  armed: ArmedHosts,
  { boots, hangsAfter, code, ...options }: WayBack,
): Promise<void> {
  const { journey, place } = await armed(options);
  for (let boot = 1; boot <= boots; boot++) {
    const slot =
      hangsAfter === undefined
        ? await journey.host.bootUntilItEnds()
        : await untilPowerCut(place, hangsAfter, boot === 1 ? HANGS_FOR_MS : 1000);
    expect([boot, slot]).toEqual([boot, 'B']);
  }
  await expectFallenBack(journey);
  await expectOperatorSees(journey, code ?? 'UNHEALTHY');
}

/** That this update failed, and that the host is well. */
async function expectOperatorSees({ host }: Journey, code: string): Promise<void> {
  const failed = { version: '1.1.0', previous_version: '1.0.1', result: 'rolled_back', code };
  const { entries } = await host.ask('history');
  expect((entries as unknown[])[0]).toMatchObject(failed);
  expect(await host.journal()).toMatchObject({
    target_version: '1.1.0',
    target_slot: 'B',
    error: { code },
  });
  await untilHealthy(host);
}
