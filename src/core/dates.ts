import { QxError } from '../errors.ts';

/** When a date lies so far ahead that it, or the clock that it is held against, is wrong. */

const DAY_MS = 86_400_000;
/** Nobody runs a program for longer than this after it was built: a clock is told from the build date by so much. */
const DECADE_MS = 3660 * DAY_MS;

/** Further than clocks and time zones differ. */
export const isDatedAhead = ({ release_date }: { readonly release_date: string }, nowMs: number): boolean =>
  Date.parse(release_date) - nowMs > DAY_MS;

/** Where a release is made or published. `whose` clock. @throws QxError DATED_AHEAD */
export function checkDated(release: { readonly release_date: string }, nowMs: number, whose: string): void {
  if (!isDatedAhead(release, nowMs)) return;
  const detail = `the release is dated ${release.release_date}, and ${whose} has ${new Date(nowMs).toISOString()}`;
  const next = 'set the clock that is wrong, and make the manifest again: its sequence comes from the same date';
  throw new QxError('DATED_AHEAD', detail, { next });
}

/** Above all that releases get of their date until tomorrow: whoever has seen it takes none of them. */
export const isSequenceAhead = ({ sequence = 0 }: { readonly sequence?: number }, nowMs: number): boolean =>
  sequence > Math.floor((nowMs + DAY_MS) / 1000);

/** What no clock shows as long as this program is used; never, where its build date is not known (0). */
export const outdatedMs = (buildDateMs: number): number =>
  buildDateMs === 0 ? Number.POSITIVE_INFINITY : buildDateMs + DECADE_MS;

/** The latest that it may be, by a clock that may have woken in 1970. */
export const latestNowMs = (nowMs: number, buildDateMs: number): number =>
  nowMs >= buildDateMs ? nowMs : outdatedMs(buildDateMs);

/**
 * Where a clock makes something that others have to believe for weeks. One that shows a date from before this program was built, or a
 * decade after it, is wrong without a doubt; one that is wrong by less is not told from one that was put right, and refusing it would
 * shut out a server that was. @throws QxError CLOCK_WRONG
 */
export function checkClock(nowMs: number, buildDateMs: number): void {
  if (nowMs >= buildDateMs - DAY_MS && nowMs <= outdatedMs(buildDateMs)) return;
  const detail = `the clock here has ${new Date(nowMs).toISOString()}, and this program was made on ${new Date(buildDateMs).toISOString()}`;
  throw new QxError('CLOCK_WRONG', detail, { next: 'set the clock of the machine that says so: chronyc makestep' });
}
