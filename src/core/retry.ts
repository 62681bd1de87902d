/** How long to wait before the next attempt. Bounded, growing, and random, so that a fleet does not come back as one. */

export interface RetryPolicy {
  readonly maxAttempts: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** The longest that a server's Retry-After is obeyed; a hostile or confused one must not silence a host for days. */
  readonly maxRetryAfterMs: number;
}

/**
 * After `failures` failed attempts in a row: milliseconds to wait, or null to give up. `random` is uniform in [0, 1): half of
 * the delay is fixed and half drawn, so nobody retries at once. A server's wish is a lower bound, never a shorter way.
 */
export function retryDelayMs(
  policy: RetryPolicy,
  failures: number,
  random: number,
  retryAfterMs: number | null = null,
): number | null {
  if (failures >= policy.maxAttempts) return null;
  const ceilingMs = Math.min(policy.maxDelayMs, policy.firstDelayMs * 2 ** Math.min(failures - 1, 30));
  const ownMs = Math.round(ceilingMs * (0.5 + random / 2));
  return Math.max(ownMs, Math.min(retryAfterMs ?? 0, policy.maxRetryAfterMs));
}

/** RFC 9110: seconds, or a date. Null when it is neither; a date that has passed is 0. */
export function readRetryAfter(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null;
  if (/^[0-9]{1,9}$/.test(header)) return Number(header) * 1000;
  const atMs = /^[A-Z][a-z]{2}, /.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(atMs) ? null : Math.max(0, atMs - nowMs);
}
