import { asQxError, QxError } from '../../errors.ts';
import type { ProcessResult } from '../../ports.ts';
import { type HookProgram, hookPrograms, lastWords, linesOf } from '../hook-programs.ts';
import type { Host } from '../host.ts';

/**
 * Emptying this host by programs of its operator, in `drain.d`. Each is called with one word: `list` prints the VMs that are
 * here now, one in each line; `drain` moves or stops them, and lets nothing new start; `undrain` lets VMs come back. Any may be
 * called again at any time. Only `list` is believed, never that `drain` says it is done.
 */

export interface DrainState {
  readonly totalVms: number;
  readonly remaining: readonly string[];
  /** Of the last try; null while it goes on, or went well. */
  readonly failure: string | null;
  /** Nothing is here, and nothing new starts. */
  readonly isEmpty: boolean;
}

export interface HostDrain {
  /** Whether anybody can empty this host, or has to. */
  can(): Promise<'empty anyway' | 'programs' | 'nobody can'>;
  /** Begins what has not begun, and answers where it stands. @throws QxError DRAIN_FAILED when nobody can tell what runs here */
  goOn(): Promise<DrainState>;
  /** @throws QxError DRAIN_FAILED */
  list(): Promise<readonly string[]>;
  /** For people: what keeps this host from being empty. */
  inTheWay(): Promise<string>;
  /** @throws QxError DRAIN_FAILED */
  undo(): Promise<void>;
  /** Nothing of it goes on once this returns. */
  stop(): Promise<void>;
}

const LIST_TIMEOUT_MS = 30_000;
const UNDRAIN_TIMEOUT_MS = 60_000;
/** Something on the host may have to change first. */
const AGAIN_AFTER_MS = 60_000;

type Machine = Pick<Host, 'config' | 'files' | 'hooks' | 'clock' | 'log' | 'audit'>;

export function hostDrain(host: Machine): HostDrain {
  const now = { running: false, isDone: false, failure: null as string | null, againMs: 0, totalVms: 0 };
  const run = { abort: new AbortController(), ended: Promise.resolve() };
  const halt = async (): Promise<void> => {
    run.abort.abort();
    await run.ended;
  };
  const programs = async (): Promise<readonly HookProgram[]> => {
    const all = await hookPrograms(host.files, 'drain.d');
    const unsafe = all.find(({ state }) => state === 'unsafe');
    if (unsafe !== undefined) throw failed(`${unsafe.path} is not run: others than root may write to it`);
    return all.filter(({ state }) => state === 'usable');
  };
  const can = async () => {
    if (!host.config.carriesVms) return 'empty anyway' as const;
    return (await programs()).length > 0 ? ('programs' as const) : ('nobody can' as const);
  };
  const list = async (): Promise<readonly string[]> => {
    if (!host.config.carriesVms) return [];
    const found: string[] = [];
    for (const program of await programs())
      found.push(...linesOf((await call(host, program, 'list', LIST_TIMEOUT_MS)).stdout));
    return found.slice(0, MAX_VMS).map((vm) => vm.slice(0, MAX_VM_LENGTH));
  };
  const drain = async (signal: AbortSignal): Promise<void> => {
    const { drainTimeoutMs } = host.config;
    await host.audit.record({ event: 'drain_begun' });
    for (const program of await programs()) await call(host, program, 'drain', drainTimeoutMs, signal);
  };
  const begin = (): void => {
    Object.assign(now, { running: true, isDone: false, failure: null });
    run.abort = new AbortController();
    run.ended = drain(run.abort.signal)
      .then(
        () => ({ isDone: true, failure: null }),
        (error: unknown) => ({ isDone: false, failure: asQxError(error).message }),
      )
      .then((end) => {
        Object.assign(now, end, { running: false, againMs: host.clock.monotonicMs() + AGAIN_AFTER_MS });
        if (end.failure !== null) host.log.warn('drain_failed', { detail: end.failure });
      });
  };
  return {
    can,
    list,
    goOn: async () => {
      const remaining = await list();
      now.totalVms = Math.max(now.totalVms, remaining.length);
      const isEmpty = now.isDone && remaining.length === 0;
      // A VM that came back, or a try that failed: once more, after a pause.
      if (!isEmpty && !now.running && host.clock.monotonicMs() >= now.againMs) begin();
      return { totalVms: now.totalVms, remaining, failure: now.failure, isEmpty };
    },
    inTheWay: async () => {
      const here = await list().then(stillHere, (error: unknown) => asQxError(error).message);
      const why = now.running ? 'the programs in drain.d have not ended' : now.failure;
      return why === null ? here : `${here} (${why})`;
    },
    undo: async () => {
      // Or VMs would be moved away and let in at the same time.
      await halt();
      Object.assign(now, { isDone: false, failure: null, againMs: 0, totalVms: 0 });
      for (const program of await programs()) await call(host, program, 'undrain', UNDRAIN_TIMEOUT_MS);
    },
    stop: halt,
  };
}

function stillHere(vms: readonly string[]): string {
  if (vms.length === 0) return 'no VM is here now';
  const names = vms.slice(0, MOST_NAMED).join(', ');
  const more = vms.length > MOST_NAMED ? ` and ${vms.length - MOST_NAMED} more` : '';
  return `${names}${more} ${vms.length === 1 ? 'is' : 'are'} still here`;
}

const MOST_NAMED = 5;
const MAX_VMS = 10_000;
const MAX_VM_LENGTH = 200;

async function call(
  { hooks }: Machine,
  { name, path }: HookProgram,
  word: 'list' | 'drain' | 'undrain',
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<ProcessResult> {
  const options = { args: [word], timeoutMs, ...(signal === undefined ? {} : { signal }) };
  const result = await hooks.run(path, options).catch((error: unknown) => {
    throw failed(`${name} ${word}: ${asQxError(error).message}`, error);
  });
  if (result.exitCode === 0) return result;
  throw failed(`${name} ${word}: exit code ${result.exitCode}: ${lastWords(result.stdout, result.stderr)}`);
}

const failed = (detail: string, cause?: unknown): QxError =>
  new QxError('DRAIN_FAILED', detail, { next: 'run it by hand as root; it is in drain.d', cause });
