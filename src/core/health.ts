/**
 * Is this boot well? Probes are asked again and again: right after a start some of them cannot hold yet, and one that holds
 * once may be about to fall over.
 */

export interface ProbeResult {
  readonly name: string;
  readonly ok: boolean;
  /** A probe that is not fatal is reported and never decides. */
  readonly fatal: boolean;
  readonly detail: string;
}

export type Health =
  | { readonly verdict: 'waiting' }
  | { readonly verdict: 'healthy'; readonly warnings: readonly ProbeResult[] }
  | { readonly verdict: 'unhealthy'; readonly failed: readonly ProbeResult[] };

/** So many rounds in a row have to be good: one is a service that is up and about to crash. */
const ROUNDS_IN_A_ROW = 3;

/**
 * `rounds` oldest first, each with every probe once. A row of good rounds that is under way when the time is up may still
 * become long enough: a host that was slow to start is no host to turn back.
 */
export function judgeHealth(rounds: readonly (readonly ProbeResult[])[], isLate: boolean): Health {
  const last = rounds.at(-1) ?? [];
  const failed = failing(last);
  const recent = rounds.slice(-ROUNDS_IN_A_ROW);
  if (recent.length === ROUNDS_IN_A_ROW && recent.every((round) => failing(round).length === 0)) {
    return { verdict: 'healthy', warnings: last.filter((p) => !p.ok) };
  }
  return isLate && failed.length > 0 ? { verdict: 'unhealthy', failed } : { verdict: 'waiting' };
}

const failing = (round: readonly ProbeResult[]): readonly ProbeResult[] => round.filter((p) => p.fatal && !p.ok);
