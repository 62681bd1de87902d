import type { InstallRequest, Plan, Refusal } from '../core/plan.ts';
import { type Activity, type LastResult, updateStatus } from '../core/status.ts';
import { asQxError, QxError } from '../errors.ts';
import type { UpdateStatus } from '../format/agent-routes.ts';
import { check, type EnvelopeCache } from './check.ts';
import type { Host, Progress } from './host.ts';
import { type InstallResult, install } from './install.ts';
import { shared } from './shared.ts';
import { loadJournal } from './store.ts';

/** One agent: at most one update at a time, whoever asks for it, and a status that looking at it never changes. */

export interface Apply {
  readonly request: InstallRequest;
  /** Reboot when the update needs it, as soon as windows and drains allow. */
  readonly reboot: boolean;
}

export type Finished = InstallResult | { readonly kind: 'failed'; readonly error: QxError };

export interface Agent {
  status(): Promise<UpdateStatus>;
  activity(): Activity;
  /** How the last update ended; null while one runs, and before the first. */
  lastFinished(): Finished | null;
  check(signal?: AbortSignal): Promise<Plan | Refusal>;
  /** Begins an update and answers with the promise of its end. @throws QxError BUSY when one is running */
  start(apply: Apply): Promise<Finished>;
  /** Stops what is running at its next safe point and waits for it. */
  stop(): Promise<void>;
}

export interface AgentEvents {
  /** An update has replaced the executable of this process: it should end, and be started anew. */
  readonly restart?: () => void;
}

export function createAgent(host: Host, events: AgentEvents = {}): Agent {
  const now: { activity: Activity; last: LastResult; finished: Finished | null } = {
    activity: { kind: 'idle' },
    last: null,
    finished: null,
  };
  const running: { update: Promise<Finished> | null; abort: AbortController } = {
    update: null,
    abort: new AbortController(),
  };

  const cache: EnvelopeCache = { known: null };

  const run = async ({ request, reboot }: Apply): Promise<Finished> => {
    const progress = (told: Progress): void => {
      now.activity = activityOf(told);
    };
    const watch = { signal: running.abort.signal, progress };
    const finished = await install(host, { ...request, reboot }, watch).catch((error: unknown) => failed(error));
    Object.assign(now, { activity: { kind: 'idle' }, finished, last: lastOf(finished) });
    running.update = null;
    // What a check found out before this end is not what is true now.
    checks.forget();
    if ('restartsAgent' in finished && finished.restartsAgent) events.restart?.();
    return finished;
  };

  const look = async (): Promise<Plan | Refusal> => {
    const watch = { signal: running.abort.signal };
    // While an update runs its progress is the status: a check must neither hide it nor end it.
    if (running.update !== null) return check(host, watch, cache);
    now.activity = { kind: 'checking' };
    try {
      const plan = await check(host, watch, cache);
      if (running.update === null) now.last = lastOfCheck(plan);
      return plan;
    } catch (error) {
      if (running.update === null) now.last = { kind: 'error', message: asQxError(error).message };
      throw error;
    } finally {
      if (now.activity.kind === 'checking') now.activity = { kind: 'idle' };
    }
  };

  const checks = shared(look);

  return {
    status: async () => updateStatus(now.activity, now.last, await loadJournal(host)),
    activity: () => now.activity,
    lastFinished: () => (running.update === null ? now.finished : null),

    // Anybody on the network may ask: the update server is asked one time.
    check: (signal) => checks.ask(signal),

    start: (apply) => {
      if (running.update !== null) throw new QxError('BUSY', 'an update is under way', { next: 'qx-update status' });
      now.activity = { kind: 'downloading', name: 'manifest', doneBytes: 0, totalBytes: 0 };
      running.update = run(apply);
      return running.update;
    },

    stop: async () => {
      running.abort.abort();
      await running.update;
    },
  };
}

const failed = (error: unknown): Finished => ({ kind: 'failed', error: asQxError(error) });

function activityOf({ phase, name, doneBytes, totalBytes }: Progress): Activity {
  return {
    kind: phase === 'writing' || phase === 'applying' ? 'applying' : 'downloading',
    name,
    doneBytes,
    totalBytes,
  };
}

function lastOf(finished: Finished): LastResult {
  switch (finished.kind) {
    case 'complete':
      return { kind: 'complete', version: finished.version };
    case 'reboot_required':
      return null;
    case 'failed':
      return { kind: 'error', message: finished.error.message };
    case 'refusal':
      return finished.code === 'NOTHING_NEWER' ? { kind: 'up_to_date' } : { kind: 'error', message: finished.detail };
  }
}

function lastOfCheck(plan: Plan | Refusal): LastResult {
  if (plan.kind === 'plan') return { kind: 'available', version: plan.manifest.version };
  return plan.code === 'NOTHING_NEWER' || plan.code === 'NO_RELEASE'
    ? { kind: 'up_to_date' }
    : { kind: 'error', message: plan.detail };
}
