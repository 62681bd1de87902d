import { type Health, judgeHealth, type ProbeResult } from '../core/health.ts';
import type { Host } from './host.ts';
import { AGENT_SERVICE } from './self.ts';

/** Asks the host how it is, until it is well or the time is up. */

const ROUND_MS = 2000;

export async function healthGate(host: Host, signal?: AbortSignal): Promise<Exclude<Health, { verdict: 'waiting' }>> {
  const deadlineMs = host.clock.monotonicMs() + host.config.healthTimeoutMs;
  const rounds: (readonly ProbeResult[])[] = [];
  for (;;) {
    rounds.push(await probeAll(host));
    const health = judgeHealth(rounds, host.clock.monotonicMs() >= deadlineMs);
    if (health.verdict !== 'waiting') return health;
    await host.clock.sleep(ROUND_MS, signal);
  }
}

const probeAll = (host: Host): Promise<readonly ProbeResult[]> =>
  Promise.all([probeService(host), probeAgent(host), probeTime(host)]);

async function probeService({ services }: Host): Promise<ProbeResult> {
  if (services.standIn !== null)
    return { name: 'service', ok: true, fatal: true, detail: `not asked: ${services.standIn}` };
  const state = await services.state(AGENT_SERVICE);
  return { name: 'service', ok: state === 'started', fatal: true, detail: `${AGENT_SERVICE} is ${state}` };
}

async function probeAgent({ agent }: Host): Promise<ProbeResult> {
  const ok = await agent.answers();
  return { name: 'agent', ok, fatal: true, detail: ok ? 'answers' : 'does not answer on its socket' };
}

/** A wrong clock is worth a warning; turning the host back would not mend it. */
async function probeTime({ clock }: Host): Promise<ProbeResult> {
  const ok = await clock.isSynchronised();
  return { name: 'time', ok, fatal: false, detail: ok ? 'synchronised' : 'not known to be synchronised' };
}
