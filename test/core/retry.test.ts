import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readRetryAfter, retryDelayMs } from '../../src/core/retry.ts';

const policy = { maxAttempts: 6, firstDelayMs: 1_000, maxDelayMs: 10_000, maxRetryAfterMs: 60_000 };

test.each([
  [1, 500, 1_000],
  [2, 1_000, 2_000],
  [3, 2_000, 4_000],
  [4, 4_000, 8_000],
  [5, 5_000, 10_000],
])('after %i failures: between %i and %i ms', (failures, least, most) => {
  expect(retryDelayMs(policy, failures, 0)).toBe(least);
  expect(retryDelayMs(policy, failures, 0.999_999)).toBe(most);
});

test('gives up when the attempts are used up', () => {
  expect(retryDelayMs(policy, 6, 0)).toBeNull();
  expect(retryDelayMs(policy, 600, 0, 1_000)).toBeNull();
});

test("a server's wish is obeyed, within bounds, and never shortens the delay", () => {
  expect(retryDelayMs(policy, 1, 0, 30_000)).toBe(30_000);
  expect(retryDelayMs(policy, 1, 0, 86_400_000)).toBe(60_000);
  expect(retryDelayMs(policy, 1, 0, 0)).toBe(500);
});

test('every delay is finite and bounded', () => {
  const unit = fc.double({ min: 0, max: 0.999_999, noNaN: true });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      unit,
      fc.option(fc.maxSafeInteger().map(Math.abs)),
      (failures, random, after) => {
        const delayMs = retryDelayMs(policy, failures, random, after);
        expect(delayMs).toBeGreaterThanOrEqual(500);
        expect(delayMs).toBeLessThanOrEqual(60_000);
      },
    ),
  );
});

const nowMs = Date.parse('2026-11-01T00:00:00Z');

test.each([
  ['120', 120_000],
  ['0', 0],
  ['Sun, 01 Nov 2026 00:01:00 GMT', 60_000],
  ['Sun, 01 Nov 2020 00:00:00 GMT', 0],
  ['soon', null],
  ['-5', null],
  ['1.5', null],
  ['99999999999999', null],
  ['', null],
  [undefined, null],
])('Retry-After: %s', (header, delayMs) => {
  expect(readRetryAfter(header, nowMs)).toBe(delayMs);
});
