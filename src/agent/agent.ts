import type { InstallRequest, Plan, Refusal } from '../core/plan.ts';
import { type Activity, type LastResult, strangeTrial, updateStatus } from '../core/status.ts';
import { asQxError, isCode, QxError } from '../errors.ts';
import type { UpdateStatus } from '../format/agent-documents.ts';
import type { Journal } from '../format/journal.ts';
import { notedTrouble } from './boot-truth.ts';
import { check, type EnvelopeCache } from './check.ts';
import { download } from './download.ts';
import { identityFault } from './fleet/binding.ts';
import { loadHold } from './hold.ts';
import type { Host, Progress, Watch } from './host.ts';
import { type InstallResult, install } from './install.ts';
import { installBundle } from './install-bundle.ts';
import { mountTrouble } from './mounts.ts';
import { shared } from './shared.ts';
import { bootsNow } from './slots.ts';
import { loadJournal } from './store.ts';

/** One agent: at most one update at a time, whoever asks for it, and a status that looking at it never changes. */

type JobResult = InstallResult | Awaited<ReturnType<typeof download>>;
export type Finished = JobResult | { readonly kind: 'failed'; readonly error: QxError };

export interface Agent {
  status(): Promise<UpdateStatus>;
  activity(): Activity;
  /** How the last update or download ended; null while one runs, and before the first. */
  lastFinished(): Finished | null;
  check(signal?: AbortSignal): Promise<Plan | Refusal>;
  /** Each begins something and answers with the promise of its end. @throws QxError BUSY when something is running */
  install(request: InstallRequest): Promise<Finished>;
  download(request: InstallRequest): Promise<Finished>;
  /** `path` of an offline bundle on this host. */
  installBundle(path: string, request: InstallRequest): Promise<Finished>;
  /** Asks what is running to stop at its next safe point. False when nothing runs. */
  cancel(): boolean;
  /** Nothing that was found out before counts any more. */
  forget(): void;
  /** Stops what is running at its next safe point and waits for it. */
  stop(): Promise<void>;
}

export interface AgentEvents {
  /** An update has replaced the executable of this process: it should end, and be started anew. */
  readonly restart?: () => void;
}

interface Job {
  readonly end: Promise<Finished>;
  readonly abort: AbortController;
}

export function createAgent(host: Host, events: AgentEvents = {}): Agent {
  const now: {
    activity: Activity;
    last: { readonly result: LastResult; readonly journal: string };
    finished: Finished | null;
    job: Job | null;
  } = { activity: { kind: 'idle' }, last: NOTHING_YET, finished: null, job: null };
  const stopping = new AbortController();
  const cache: EnvelopeCache = { known: null };

  const begin = (work: (watch: Watch) => Promise<JobResult>, first = 'manifest'): Promise<Finished> => {
    if (now.job !== null) throw new QxError('BUSY', 'an update is under way', { next: 'qx-update status' });
    now.activity = { kind: 'downloading', name: first, doneBytes: 0, totalBytes: 0 };
    const abort = new AbortController();
    const progress = (told: Progress): void => {
      now.activity = activityOf(told);
    };
    const end = finish(work({ signal: abort.signal, progress }));
    now.job = { end, abort };
    return end;
  };

  const finish = async (work: Promise<JobResult>): Promise<Finished> => {
    const finished = await work.catch((error: unknown): Finished => ({ kind: 'failed', error: asQxError(error) }));
    const last = await dated(host, lastOf(finished));
    Object.assign(now, { activity: { kind: 'idle' }, finished, last, job: null });
    // What a check found out before this end is not what is true now.
    checks.forget();
    if ('restartsAgent' in finished && finished.restartsAgent) events.restart?.();
    return finished;
  };

  const remember = async (result: LastResult): Promise<void> => {
    const last = await dated(host, result);
    if (now.job === null) now.last = last;
  };

  const look = async (): Promise<Plan | Refusal> => {
    const watch = { signal: stopping.signal };
    // While an update runs its progress is the status: a check must neither hide it nor end it.
    if (now.job !== null) return check(host, watch, cache);
    now.activity = { kind: 'checking' };
    try {
      const plan = await check(host, watch, cache);
      await remember(lastOfCheck(plan));
      return plan;
    } catch (error) {
      await remember({ kind: 'error', message: asQxError(error).message });
      throw error;
    } finally {
      if (now.activity.kind === 'checking') now.activity = { kind: 'idle' };
    }
  };

  const checks = shared(look);

  return {
    status: async () => {
      const [held, journal, boot, contradicted, lost] = await Promise.all([
        loadHold(host),
        loadJournal(host),
        bootsNow(host),
        notedTrouble(host),
        mountTrouble(host).catch(asQxError),
      ]);
      // The journal has gone on since, by another process: what it says is newer.
      const last = now.last.journal === stamp(journal) ? now.last.result : null;
      const trouble = (lost ?? contradicted)?.message ?? strangeTrial(boot.state, journal, boot.running);
      const status = updateStatus(now.activity, last, journal, boot, trouble);
      const fault = await identityFault(host.files);
      const waitsFor = status.status === 'reboot_required' ? host.duties.waitsFor() : null;
      return {
        ...(fault === null ? status : withFault(status, fault)),
        ...(held === null ? {} : { held: held.reason }),
        ...(waitsFor === null ? {} : { waitsFor }),
      };
    },
    activity: () => now.activity,
    lastFinished: () => (now.job === null ? now.finished : null),

    // Anybody on the network may ask: the update server is asked one time.
    check: (signal) => checks.ask(signal),

    install: (request) => begin((watch) => install(host, request, watch)),
    download: (request) => begin((watch) => download(host, request, watch)),
    installBundle: (path, request) => begin((watch) => installBundle(host, path, request, watch), 'bundle'),

    cancel: () => {
      now.job?.abort.abort();
      return now.job !== null;
    },
    forget: () => {
      Object.assign(now, { last: NOTHING_YET, finished: null });
      checks.forget();
    },
    stop: async () => {
      stopping.abort();
      now.job?.abort.abort();
      await now.job?.end;
    },
  };
}

/** Of no more weight than what is under way, and of more than what was. */
function withFault(status: UpdateStatus, { code, message, next }: QxError): UpdateStatus {
  const identity = { code, detail: message, ...(next === undefined ? {} : { next }) };
  const isOver = code === 'MACHINE_DIFFERS' && FINISHED.has(status.status);
  return isOver ? { status: 'error', message, identity } : { ...status, identity };
}

const FINISHED: ReadonlySet<UpdateStatus['status']> = new Set(['idle', 'up_to_date', 'available', 'complete', 'error']);

const NOTHING_YET = { result: null, journal: '' };

/** With the journal of that moment, by which to tell later whether anything was done since. */
const dated = async (host: Host, result: LastResult) => ({
  result,
  journal: stamp(await loadJournal(host).catch(() => null)),
});

const stamp = (journal: Journal | null): string =>
  journal === null ? '' : `${journal.id} ${journal.phase} ${journal.updated_at}`;

function activityOf({ phase, name, doneBytes, totalBytes }: Progress): Activity {
  return {
    kind: phase === 'writing' || phase === 'applying' ? 'applying' : 'downloading',
    name,
    doneBytes,
    totalBytes,
  };
}

/** What the status sees by itself, for as long as it is so. */
const isSeenNow = (error: QxError): boolean => isCode(error, 'MOUNT_MISSING', 'BOOT_MISSING', 'BOOT_MISMATCH');

function lastOf(finished: Finished): LastResult {
  switch (finished.kind) {
    case 'complete':
    case 'downloaded':
      return { kind: finished.kind, version: finished.version };
    case 'reboot_required':
      return null;
    case 'failed':
      if (finished.error.code === 'CANCELLED') return { kind: 'stopped', message: 'The update was cancelled' };
      return isSeenNow(finished.error) ? null : { kind: 'error', message: finished.error.message };
    case 'refusal':
      if (finished.code === 'ALREADY_INSTALLED') return null;
      if (finished.code === 'CANCELLED' || finished.code === 'TAKEN_BACK')
        return { kind: 'stopped', message: finished.detail };
      return finished.code === 'NOTHING_NEWER' ? { kind: 'up_to_date' } : { kind: 'error', message: finished.detail };
  }
}

function lastOfCheck(plan: Plan | Refusal): LastResult {
  if (plan.kind === 'plan') return { kind: 'available', version: plan.manifest.version };
  if (plan.code === 'ALREADY_INSTALLED') return null;
  if (plan.code === 'TAKEN_BACK') return { kind: 'stopped', message: plan.detail };
  return plan.code === 'NOTHING_NEWER' || plan.code === 'NO_RELEASE'
    ? { kind: 'up_to_date' }
    : { kind: 'error', message: plan.detail };
}
