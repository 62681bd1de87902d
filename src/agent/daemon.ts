import { isOpen, nextOpeningMs } from '../core/window.ts';
import { fieldsOf } from '../errors.ts';
import type { Agent } from './agent.ts';
import { contactWatch } from './contact-watch.ts';
import { loadHold } from './hold.ts';
import { type Host, PATHS } from './host.ts';
import { markMounts } from './installation.ts';
import { reboot } from './reboot.ts';
import { recover } from './recover.ts';
import { installedSelf, reportStarted } from './self.ts';
import { loadJournal } from './store.ts';

/**
 * The loop of the host agent: look, decide, act, sleep. It ends when it is told to, which
 * is also how an agent whose own executable was replaced makes way for the new one.
 */

const TICK_MS = 15_000;
/** Racks are switched on together; their first questions to the server are not asked together. */
const FIRST_CHECK_WITHIN_MS = 60_000;
/** A window that opens in hours may be another one by then. */
const ASK_AGAIN_WITHIN_MS = 30_000;
/** Up for so long is more than a crash at start. */
const STARTED_AFTER_MS = 15_000;

/**
 * What an earlier stop left is settled before anybody can ask for more. True when a successor has to go on: what was put back
 * may be the very executable that this process was started from.
 */
export const settleAtStart = async (host: Host): Promise<boolean> =>
  (await quietly(host, 'recover', () => withLock(host, () => converge(host)))) === true;

export async function runAgent(host: Host, agent: Agent, signal: AbortSignal): Promise<void> {
  // Counted on a clock that never steps: one that is set back must not put off the next check by years.
  const { monotonicMs } = host.clock;
  const startedMs = monotonicMs() + STARTED_AFTER_MS;
  // Not before the start is reported: a check may begin an update, whose new agent would inherit an uncounted start.
  let nextCheckMs = startedMs + host.random.unit() * Math.min(FIRST_CHECK_WITHIN_MS, host.config.checkIntervalMs);
  const watchContact = contactWatch(host);
  let isReported = false;
  let nextRebootMs = 0;
  while (!signal.aborted) {
    if (!isReported && monotonicMs() >= startedMs) {
      isReported = (await quietly(host, 'report_started', () => reportStarted(host).then(() => true))) === true;
    }
    if (monotonicMs() >= nextCheckMs) {
      const pauseMs = await quietly(host, 'check', () => look(host, agent, signal));
      nextCheckMs = monotonicMs() + (pauseMs ?? intervalMs(host));
    }
    await quietly(host, 'contact', watchContact);
    await quietly(host, 'duties', () => host.duties.tick());
    if (monotonicMs() >= nextRebootMs) {
      const pauseMs = await quietly(host, 'reboot', () => rebootWhenAllowed(host));
      nextRebootMs = monotonicMs() + Math.min(pauseMs ?? 0, ASK_AGAIN_WITHIN_MS);
    }
    await host.clock.sleep(Math.min(TICK_MS, Math.max(1000, nextCheckMs - monotonicMs())), signal).catch(() => {});
  }
}

async function converge(host: Host): Promise<boolean> {
  const before = await installedSelf(host);
  await recover(host);
  await markMounts(host);
  return (await installedSelf(host)) !== before;
}

/** The health gate may hold the lock at this moment; it converges the same things. */
async function withLock<T>(host: Host, act: () => Promise<T>): Promise<T | undefined> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return undefined;
  try {
    return await act();
  } finally {
    await unlock();
  }
}

/** One failing step is logged and never ends the daemon. */
async function quietly<T>(host: Host, step: string, act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    host.log.warn('step_failed', { step, ...fieldsOf(error) });
    return undefined;
  }
}

/** Looks for an update and, where the operator wants that, installs it. Answers how long to wait before the next look. */
async function look(host: Host, agent: Agent, signal: AbortSignal): Promise<number> {
  const { enabled, autoCheck, autoApply, autoReboot, windows } = host.config;
  if (!enabled || !autoCheck) return intervalMs(host);
  const plan = await agent.check(signal);
  if (plan.kind === 'refusal' || !autoApply || (await loadHold(host)) !== null) return intervalMs(host);
  const nowMs = host.clock.nowMs();
  if (!isOpen(windows, nowMs)) return Math.min(intervalMs(host), nextOpeningMs(windows, nowMs) - nowMs);
  await host.audit.record({ event: 'update_requested', actor: 'schedule' });
  await agent.install({ reboot: autoReboot });
  return intervalMs(host);
}

/** A tenth more or less, so that hosts which started together drift apart. */
const intervalMs = (host: Host): number => host.config.checkIntervalMs * (0.9 + 0.2 * host.random.unit());

/** Answers how long to wait before it is asked again, if somebody said so. */
async function rebootWhenAllowed(host: Host): Promise<number | undefined> {
  const journal = await loadJournal(host);
  if (journal?.phase !== 'armed' || !(host.config.autoReboot || journal.reboot_wanted === true)) return undefined;
  // The trial boot itself: what it waits for now is its health gate.
  if ((await host.boot.booted()).slot === journal.target_slot) return undefined;
  if ((await loadHold(host)) !== null) return undefined;
  const { product, channel, target_version: version } = journal;
  const grant = await host.offer.mayReboot({ product, channel, version });
  if (!grant.granted) {
    host.log.info('reboot_waits', { version, reason: grant.reason });
    return grant.retryAfterMs;
  }
  await reboot(host, 'schedule');
  return undefined;
}
