import { expect } from 'vitest';
import type { Running } from '../../scripts/support/machine.ts';
import type { Journey } from './journey.ts';
import { both, bothOf } from './journey-good.ts';

/** Undone; or never begun, which leaves what the rollback before it said; or whole. */
const SETTLED = ['failed', 'rolledBack', 'armed'];

export interface Survivor extends Pick<Running, 'slot' | 'cmdline'> {
  readonly phase: string | undefined;
}

/**
 * Powers a host on whose power was cut during its update from 1.0.1 to 1.1.0: it is the old one or the new one, whole.
 * @throws Error when it is neither; `what` says which cut it was
 */
export async function expectOneOfBoth(journey: Journey, what: string): Promise<Survivor> {
  const { host } = journey;
  const { slot, cmdline } = await host.boot();
  await host.untilAgentAnswers();
  const phase = (await host.journal())?.phase;
  expect(slot === 'B' ? ['complete'] : SETTLED, what).toContain(phase);
  expect(await bothOf(journey), what).toEqual(both(slot === 'B' || phase === 'armed' ? '1.1.0' : '1.0.1'));
  expect(await host.environment(), what).not.toBeNull();
  return { slot, cmdline, phase };
}
