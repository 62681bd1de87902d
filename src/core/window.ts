import { DAYS, type Window } from '../format/window.ts';

/**
 * Maintenance windows in their own time zone, daylight saving included. A window opens at the first instant of one of its days whose
 * local clock is at or past the start, and closes at the first one after it when the local clock has reached the end. Where the
 * clock was put forward over all of it, it is as long as it is written, from the instant of the change on.
 */

/** Milliseconds since 1970; closed at `toMs` again. */
export interface Opening {
  readonly fromMs: number;
  readonly toMs: number;
}

/** No window at all means that any time will do. */
export const isOpen = (windows: readonly Window[], nowMs: number): boolean =>
  windows.length === 0 || windows.some((window) => isWithin(openings(window, nowMs, NEAR_DAYS), nowMs));

/** When the next window opens; `nowMs` itself when one is open, and infinity when none does within a year. */
export function nextOpeningMs(windows: readonly Window[], nowMs: number): number {
  if (isOpen(windows, nowMs)) return nowMs;
  const next = (days: number): number =>
    Math.min(
      ...windows
        .flatMap((window) => openings(window, nowMs, days))
        .map(({ fromMs }) => fromMs)
        .filter((fromMs) => fromMs > nowMs),
    );
  const near = next(NEAR_DAYS);
  return near === Number.POSITIVE_INFINITY ? next(YEAR_DAYS) : near;
}

const NEAR_DAYS = 10;
const YEAR_DAYS = 367;

const isWithin = (all: readonly Opening[], nowMs: number): boolean =>
  all.some(({ fromMs, toMs }) => fromMs <= nowMs && nowMs < toMs);

/** Those that begin on the days around now: from the day before yesterday, since one may cross midnight, so many days on. */
export function openings(window: Window, nowMs: number, days: number): Opening[] {
  const zone = window.timezone ?? 'UTC';
  const today = Temporal.Instant.fromEpochMilliseconds(nowMs).toZonedDateTimeISO(zone).toPlainDate();
  const named: readonly string[] = window.days ?? DAYS;
  return Array.from({ length: days }, (_, i) => today.add({ days: i - 2 }))
    .filter((date) => named.includes(DAYS[date.dayOfWeek - 1] as string))
    .map((date) => opening(window, date, zone))
    .filter((one) => one !== null);
}

/** Null on a day that its zone has left out, as islands do that change sides of the date line. */
function opening(window: Window, date: Temporal.PlainDate, zone: string): Opening | null {
  const start = Temporal.PlainTime.from(window.start);
  const end = Temporal.PlainTime.from(window.end);
  const endDate = Temporal.PlainTime.compare(end, start) <= 0 ? date.add({ days: 1 }) : date;
  const [from, to] = [date.toPlainDateTime(start), endDate.toPlainDateTime(end)];
  const fromMs = reachedMs(from, zone);
  if (!Temporal.Instant.fromEpochMilliseconds(fromMs).toZonedDateTimeISO(zone).toPlainDate().equals(date)) return null;
  const toMs = reachedMs(to, zone);
  return { fromMs, toMs: toMs > fromMs ? toMs : fromMs + from.until(to).total('milliseconds') };
}

/** The first instant when the clock of the zone shows this time: of one that it skips that of the change, of one that comes twice the first. */
function reachedMs(time: Temporal.PlainDateTime, zone: string): number {
  const first = time.toZonedDateTime(zone, { disambiguation: 'earlier' });
  if (first.toPlainDateTime().equals(time)) return first.epochMilliseconds;
  // Read by the offset from before the change it lies behind that, or right on it.
  const behind = time.toZonedDateTime(zone, { disambiguation: 'later' }).add({ nanoseconds: 1 });
  return (behind.getTimeZoneTransition('previous') ?? first).epochMilliseconds;
}
