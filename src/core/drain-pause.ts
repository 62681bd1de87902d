/** How long a host waits after a try to become empty that came to nothing: each one costs its guests a move, and others a place. */

const HOUR_MS = 3_600_000;
const LONGEST_MS = 24 * HOUR_MS;

/** After so many in a row. */
export const drainPauseMs = (failures: number): number =>
  Math.min(LONGEST_MS, HOUR_MS * 2 ** Math.min(failures - 1, 30));

/** A moment ahead of now was noted by a clock that was wrong: it is taken for now. */
export const elapsedMs = (since: string, nowMs: number): number => Math.max(0, nowMs - Date.parse(since));
