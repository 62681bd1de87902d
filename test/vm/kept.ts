import { expect } from 'vitest';
import type { Journey } from '../support/journey.ts';
import { both, bothMayBoot, bothOf, untilHealthy, untilPhase } from '../support/journey-good.ts';

/** The end of a good trial, under whatever circumstances: slot B runs and is kept, and everybody says so. */
export async function expectKept(journey: Journey, components: string | null = '1.1.0'): Promise<void> {
  const { host } = journey;
  await untilPhase(journey, 'complete');
  expect(await host.environment()).toEqual(bothMayBoot('B', 'A'));
  const journal = await host.journal();
  expect(journal).toMatchObject({ pending: false, error: null, target_version: '1.1.0' });
  expect(await host.text('/run/quantix/confirmed')).toBe(journal?.id);
  expect(await bothOf(journey)).toEqual(both(components));
  expect(await host.memory()).toMatchObject({ committed: { version: '1.1.0' }, bad: [] });
  expect(await host.ask('status')).toMatchObject({ status: 'complete', currentVersion: '1.1.0' });
  const { entries } = await host.ask('history');
  expect((entries as unknown[])[0]).toMatchObject({ version: '1.1.0', previous_version: '1.0.1', result: 'complete' });
  await untilHealthy(host);
}

/** Slot B has its trial, and is kept. */
export async function expectTrialKept(journey: Journey): Promise<void> {
  expect((await journey.host.boot()).slot).toBe('B');
  await expectKept(journey);
}

/** Nobody knows any more what should boot: slot A does, arms the trial again, and that is kept. */
export async function expectArmedAgainAndKept(journey: Journey): Promise<void> {
  const { host } = journey;
  const { slot, cmdline } = await host.boot();
  expect([slot, cmdline]).toEqual(['A', expect.stringContaining('quantix.env=none')]);
  await host.untilAgentAnswers();
  expect(await host.environment()).toMatchObject({ order: ['B', 'A'], A: { ok: true }, B: { ok: false, tries: 3 } });
  expect(await host.journal()).toMatchObject({ phase: 'armed', pending: true });
  await host.goDown();
  await expectTrialKept(journey);
}
