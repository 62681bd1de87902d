import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isOpen, nextOpeningMs, openings } from '../../src/core/window.ts';
import { DAYS, type Window } from '../../src/format/window.ts';

const at = (text: string): number => Date.parse(text);
const night: Window = { start: '02:00', end: '05:00', timezone: 'America/New_York' };
const weeknights: Window = { ...night, days: ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday'] };

describe('isOpen', () => {
  test.each([
    ['no window means any time', [], '2026-06-01T12:00:00Z', true],
    ['opens at its local start', [night], '2026-06-01T06:00:00Z', true],
    ['is closed a moment before', [night], '2026-06-01T05:59:59.999Z', false],
    ['is closed at its end', [night], '2026-06-01T09:00:00Z', false],
    ['follows the zone into winter', [night], '2026-12-01T07:00:00Z', true],
    ['is closed at the summer hour in winter', [night], '2026-12-01T06:30:00Z', false],
    ['keeps to its days', [weeknights], '2026-06-05T07:00:00Z', false],
    ['knows the day by the local date', [weeknights], '2026-06-04T07:00:00Z', true],
    ['crosses midnight', [{ start: '22:00', end: '01:00' }], '2026-06-01T00:30:00Z', true],
    [
      'belongs to the day it starts on',
      [{ start: '22:00', end: '01:00', days: ['monday'] }],
      '2026-06-02T00:30:00Z',
      true,
    ],
    [
      'does not open the day after',
      [{ start: '22:00', end: '01:00', days: ['monday'] }],
      '2026-06-02T22:30:00Z',
      false,
    ],
    [
      'start equal to end is a whole day',
      [{ start: '00:00', end: '00:00', days: ['monday'] }],
      '2026-06-01T23:59:00Z',
      true,
    ],
    ['any of several', [night, { start: '12:00', end: '13:00' }], '2026-06-01T12:10:00Z', true],
  ] as [string, Window[], string, boolean][])('%s', (_, windows, now, open) => {
    expect(isOpen(windows, at(now))).toBe(open);
  });
});

describe('daylight saving', () => {
  // 2026-03-08 02:00 does not exist in New York; clocks go from 02:00 to 03:00 local time (07:00 UTC).
  test('a start that is skipped is taken when the clocks have moved on', () => {
    expect(isOpen([night], at('2026-03-08T06:59:00Z'))).toBe(false);
    expect(isOpen([night], at('2026-03-08T07:00:00Z'))).toBe(true);
    expect(isOpen([night], at('2026-03-08T09:00:00Z'))).toBe(false);
  });

  // 2026-11-01 01:30 exists twice; the window covers the repeated hour as well.
  test('a window over the repeated hour is an hour longer', () => {
    const window: Window = { start: '00:30', end: '02:30', timezone: 'America/New_York' };
    expect(isOpen([window], at('2026-11-01T04:30:00Z'))).toBe(true);
    expect(isOpen([window], at('2026-11-01T07:29:00Z'))).toBe(true);
    expect(isOpen([window], at('2026-11-01T07:30:00Z'))).toBe(false);
  });
});

describe('nextOpeningMs', () => {
  test.each([
    ['now while it is open', [night], '2026-06-01T07:00:00Z', '2026-06-01T07:00:00Z'],
    ['tonight', [night], '2026-06-01T12:00:00Z', '2026-06-02T06:00:00Z'],
    ['after the weekend', [weeknights], '2026-06-05T12:00:00Z', '2026-06-07T06:00:00Z'],
    [
      'a week ahead',
      [{ start: '02:00', end: '03:00', days: ['monday'] }],
      '2026-06-01T03:00:00Z',
      '2026-06-08T02:00:00Z',
    ],
  ] as [string, Window[], string, string][])('%s', (_, windows, now, next) => {
    expect(new Date(nextOpeningMs(windows, at(now))).toISOString()).toBe(new Date(next).toISOString());
  });
});

/** What the clock on the wall of a zone shows, read every 15 minutes: every change of these zones falls on one of them. */
const QUARTER_MS = 900_000;
const ZONES = [
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'America/Santiago',
  'Pacific/Apia',
  'Africa/Casablanca',
];

interface Reading {
  readonly ms: number;
  readonly date: string;
  /** Of the wall clock, comparable across days. */
  readonly minutes: number;
}

function readWall(zone: string, fromMs: number, count: number): Reading[] {
  return Array.from({ length: count }, (_, i) => {
    const ms = fromMs + i * QUARTER_MS;
    const wall = Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(zone).toPlainDateTime();
    return { ms, date: wall.toPlainDate().toString(), minutes: wall.toZonedDateTime('UTC').epochMilliseconds / 60_000 };
  });
}

const minutesOf = (time: string): number => Number(time.slice(0, 2)) * 60 + Number(time.slice(3));

/** The rule, read off the wall. */
function readOff(wall: readonly Reading[], date: string, { start, end }: Window): readonly [number, number] | null {
  const midnight = Date.parse(`${date}T00:00:00Z`) / 60_000;
  const ends = midnight + minutesOf(end) + (minutesOf(end) <= minutesOf(start) ? 1440 : 0);
  const from = wall.findIndex((one) => one.date === date && one.minutes >= midnight + minutesOf(start));
  const begin = wall[from];
  if (begin === undefined) return null;
  const nominalMs = (ends - midnight - minutesOf(start)) * 60_000;
  if (begin.minutes >= ends) return [begin.ms, begin.ms + nominalMs];
  return [begin.ms, wall.slice(from + 1).find(({ minutes }) => minutes >= ends)?.ms ?? Number.NaN];
}

function* changesOf(zone: string, from: string, to: string): Generator<Temporal.ZonedDateTime> {
  let at = Temporal.Instant.from(from).toZonedDateTimeISO(zone);
  for (;;) {
    const next = at.getTimeZoneTransition('next');
    if (next === null || next.epochMilliseconds > Date.parse(to)) return;
    yield next;
    at = next;
  }
}

const clock = (minutes: number): string =>
  `${String(Math.floor(minutes / 60) % 24).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;

test.each(ZONES)('in %s a window is what the clock on the wall says, around every change of ten years', (timezone) => {
  let compared = 0;
  // Apia left out a day in 2011, and has changed nothing since 2021.
  for (const change of changesOf(timezone, '2011-06-01T00:00:00Z', '2021-06-01T00:00:00Z')) {
    const wall = readWall(timezone, change.epochMilliseconds - 2.5 * 86_400_000, 5 * 96);
    const quarter = (change.year % 2) * 15;
    for (const date of [change.toPlainDate().subtract({ days: 1 }), change.toPlainDate()]) {
      for (let start = quarter; start < 1440; start += 30) {
        for (const length of [15, 45, 180]) {
          const days: Window['days'] = [DAYS[date.dayOfWeek - 1] ?? 'monday'];
          const window = { start: clock(start), end: clock(start + length), timezone, days };
          const found = openings(window, Date.parse(`${date}T12:00:00Z`), 5).filter(({ fromMs }) =>
            wall.some(({ ms, date: on }) => ms === fromMs && on === date.toString()),
          );
          const expected = readOff(wall, date.toString(), window);
          expect([date.toString(), window, found.map(({ fromMs, toMs }) => [fromMs, toMs])]).toEqual([
            date.toString(),
            window,
            expected === null ? [] : [expected],
          ]);
          compared++;
        }
      }
    }
  }
  expect(compared).toBeGreaterThan(100);
});

test('in any zone a window is open at the opening that is told, and closed a second before', () => {
  const zones = Intl.supportedValuesOf('timeZone');
  const any = fc.record({
    timezone: fc.constantFrom(...zones),
    start: fc.integer({ min: 0, max: 1439 }).map(clock),
    end: fc.integer({ min: 0, max: 1439 }).map(clock),
    days: fc.subarray([...DAYS], { minLength: 1 }),
    nowMs: fc.integer({ min: Date.parse('2010-01-01'), max: Date.parse('2040-01-01') }),
  });
  fc.assert(
    fc.property(any, ({ nowMs, ...window }) => {
      const opensMs = nextOpeningMs([window], nowMs);
      expect(Number.isFinite(opensMs)).toBe(true);
      expect(isOpen([window], opensMs)).toBe(true);
      for (const { fromMs, toMs } of openings(window, nowMs, 9)) expect(toMs).toBeGreaterThan(fromMs);
      // Where one window ends as the next begins, or they overlap, it was open before as well.
      const isDaily = openings(window, opensMs, 9).some(({ fromMs, toMs }) => fromMs < opensMs && toMs >= opensMs);
      if (opensMs > nowMs + 1000 && !isDaily) expect(isOpen([window], opensMs - 1000)).toBe(false);
    }),
    { numRuns: 300 },
  );
});
