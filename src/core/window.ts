import { DAYS, type Window } from '../format/window.ts';

/**
 * Maintenance windows in their own time zone, daylight saving included: a window starts at its local time on each of its
 * days, and ends at the first moment after that when the local clock has reached its end.
 */

/** No window at all means that any time will do. */
export const isOpen = (windows: readonly Window[], nowMs: number): boolean =>
  windows.length === 0 ||
  windows.some((window) => openings(window, nowMs).some(([from, to]) => from <= nowMs && nowMs < to));

/** When the next window opens, in milliseconds since 1970; `nowMs` itself when one is open. */
export function nextOpeningMs(windows: readonly Window[], nowMs: number): number {
  if (isOpen(windows, nowMs)) return nowMs;
  const starts = windows.flatMap((window) => openings(window, nowMs)).map(([from]) => from);
  return Math.min(...starts.filter((from) => from > nowMs));
}

/** Openings that may matter now: from the day before yesterday (a window may cross midnight) to a week ahead. */
function openings(window: Window, nowMs: number): (readonly [fromMs: number, toMs: number])[] {
  const zone = window.timezone ?? 'UTC';
  const today = Temporal.Instant.fromEpochMilliseconds(nowMs).toZonedDateTimeISO(zone).toPlainDate();
  const days: readonly string[] = window.days ?? DAYS;
  return Array.from({ length: 10 }, (_, i) => today.add({ days: i - 2 }))
    .filter((date) => days.includes(DAYS[date.dayOfWeek - 1] as string))
    .map((date) => opening(window, date, zone));
}

function opening(window: Window, date: Temporal.PlainDate, zone: string): readonly [number, number] {
  const start = Temporal.PlainTime.from(window.start);
  const end = Temporal.PlainTime.from(window.end);
  const isNextDay = Temporal.PlainTime.compare(end, start) <= 0;
  // A local time that daylight saving skips is taken an hour later, one that it repeats the first time.
  const at = (day: Temporal.PlainDate, time: Temporal.PlainTime) =>
    day.toZonedDateTime({ timeZone: zone, plainTime: time }).epochMilliseconds;
  return [at(date, start), at(isNextDay ? date.add({ days: 1 }) : date, end)];
}
