import { QxError } from '../../src/errors.ts';
import type { Disks } from '../../src/ports/disks.ts';
import type { Clock, Log, Random } from '../../src/ports.ts';

/** A folder, and no machine. */
export const NO_DISKS: Disks = {
  look: async () => null,
  isLasting: async () => null,
  resolve: async () => null,
  isInUse: async () => false,
  environmentsOn: async () => [],
};

/** A clock that stands where it is put; sleeping is noted and takes no time. */
export interface FakeClock extends Clock {
  readonly slept: readonly number[];
}

export function fakeClock(now = '2026-11-10T12:00:00Z', isSynchronised = true): FakeClock {
  const slept: number[] = [];
  return {
    slept,
    nowMs: () => Date.parse(now),
    monotonicMs: () => performance.now(),
    sleep: async (ms, signal) => {
      if (signal?.aborted === true) throw new QxError('CANCELLED', 'waiting was cancelled');
      slept.push(ms);
    },
    isSynchronised: async () => isSynchronised,
  };
}

export const fixedRandom: Random = { id: () => 'abcdefgh01234567', unit: () => 0 };

export interface LogLine {
  readonly level: 'info' | 'warn';
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export function recordedLog(): Log & { readonly lines: readonly LogLine[] } {
  const lines: LogLine[] = [];
  return {
    lines,
    info: (event, fields = {}) => void lines.push({ level: 'info', event, fields }),
    warn: (event, fields = {}) => void lines.push({ level: 'warn', event, fields }),
  };
}
