/** How long a host takes to become empty, told from how long it took before. */

/** A drain that came to its end by itself. */
export interface PastDrain {
  readonly durationMs: number;
  /** That moved away: one at least. */
  readonly vms: number;
}

export interface PastDrains {
  readonly ofHost: readonly PastDrain[];
  /** The host's own among them. */
  readonly ofGroup: readonly PastDrain[];
}

export interface ExpectedDrain {
  readonly seconds: number;
  /** How many past ones say so. */
  readonly drains: number;
  readonly of: 'host' | 'group';
}

/** So many of the latest are looked at: machines and networks change. */
export const DRAINS_REMEMBERED = 20;

/**
 * The median of the host's own, or of its group while it has none: by VM where it is known how many have to move, whole drains
 * where it is not (`vms` null). Null: no drain of either has moved a VM yet.
 */
export function expectedDrain({ ofHost, ofGroup }: PastDrains, vms: number | null): ExpectedDrain | null {
  const of = ofHost.length > 0 ? 'host' : 'group';
  const past = of === 'host' ? ofHost : ofGroup;
  if (past.length === 0) return null;
  const ms =
    vms === null
      ? median(past.map(({ durationMs }) => durationMs))
      : vms * median(past.map((drain) => drain.durationMs / drain.vms));
  return { seconds: Math.round(ms / 1000), drains: past.length, of };
}

/** Of one value at least. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = Math.floor(sorted.length / 2);
  const [low = 0, high = low] = sorted.length % 2 === 1 ? [sorted[upper]] : sorted.slice(upper - 1, upper + 1);
  return (low + high) / 2;
}
