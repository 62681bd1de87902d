import type { Clock, Log } from '../ports.ts';
import type { Store } from './store.ts';

/**
 * The time by which servers judge what they share. Several of them have one database and a clock each: one whose clock is ahead would
 * end the drains and grants of the others early. So all of them go by the clock of the database.
 */

export interface StateClock {
  readonly clock: Clock;
  /** Until the signal. */
  run(signal: AbortSignal): Promise<void>;
}

interface Machine {
  readonly clock: Clock;
  readonly log: Log;
}

const EVERY_MS = 5000;
/** More than this is told: something else on this machine goes by its clock, too. */
const TOLD_FROM_MS = 60_000;

/** SQLite has no clock of its own, and one server. @throws QxError STATE_UNREACHABLE */
export async function stateClock({ nowMs: askMs }: Pick<Store, 'nowMs'>, { clock, log }: Machine): Promise<StateClock> {
  if (askMs === undefined) return { clock, run: async () => undefined };
  const seen = { atMs: 0, stateMs: 0, isTold: false };
  const look = async (): Promise<void> => {
    const beforeMs = clock.monotonicMs();
    const stateMs = await askMs();
    const atMs = clock.monotonicMs();
    // Counted from here on by a clock that never steps: that this machine's own is put right changes nothing.
    Object.assign(seen, { atMs, stateMs: stateMs + Math.round((atMs - beforeMs) / 2) });
    const aheadMs = clock.nowMs() - seen.stateMs;
    const isFar = Math.abs(aheadMs) > TOLD_FROM_MS;
    if (isFar && !seen.isTold) log.warn('clock_differs', told(aheadMs));
    seen.isTold = isFar;
  };
  await look();
  const nowMs = (): number => Math.round(seen.stateMs + clock.monotonicMs() - seen.atMs);
  return {
    clock: { ...clock, nowMs },
    run: async (signal) => {
      while (!signal.aborted) {
        await clock.sleep(EVERY_MS, signal).catch(() => undefined);
        // A database that does not answer is told by whoever needs it.
        if (!signal.aborted) await look().catch(() => undefined);
      }
    },
  };
}

function told(aheadMs: number): { detail: string; next: string } {
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const how = aheadMs > 0 ? 'ahead of' : 'behind';
  return {
    detail: `the clock of this server is ${seconds} s ${how} that of the database, which counts for hosts and their maintenance`,
    next: 'have both machines keep the time, by chrony for example',
  };
}
