import { describe, expect, test } from 'vitest';
import { isOpen, nextOpeningMs } from '../../src/core/window.ts';
import type { Window } from '../../src/format/window.ts';

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
