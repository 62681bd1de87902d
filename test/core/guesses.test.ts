import { expect, test } from 'vitest';
import { createGuesses } from '../../src/core/guesses.ts';

test('a few slips are free, then each wait is twice the one before, up to five minutes', () => {
  const guesses = createGuesses();
  const waits = Array.from({ length: 18 }, () => {
    guesses.wrong('one', 0);
    return guesses.waitMs('one', 0) / 1000;
  });
  expect(waits).toEqual([0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
  expect(guesses.waitMs('another', 0)).toBe(0);
  expect(guesses.waitMs('one', 300_000)).toBe(0);
});

test('who was quiet for an hour starts afresh', () => {
  const guesses = createGuesses();
  for (let i = 0; i < 6; i++) guesses.wrong('two', 0);
  guesses.wrong('two', 3_600_000);
  expect(guesses.waitMs('two', 3_600_000)).toBe(0);
});

test('while many addresses guess, a first slip already costs a wait', () => {
  const guesses = createGuesses();
  for (let i = 0; i < 100; i++) guesses.wrong(`address ${i}`, 0);
  guesses.wrong('one more', 0);
  expect(guesses.waitMs('one more', 0)).toBe(1000);
  guesses.wrong('next minute', 60_000);
  expect(guesses.waitMs('next minute', 60_000)).toBe(0);
});

test('T37 another address of the same IPv6 network is no other guesser', () => {
  const guesses = createGuesses();
  for (let i = 0; i < 6; i++) guesses.wrong(`2001:db8:1:2::${i}`, 0);
  expect(guesses.waitMs('2001:db8:1:2:ffff::1', 0)).toBe(1000);
  expect(guesses.waitMs('2001:db8:1:3::1', 0)).toBe(0);
  expect(guesses.waitMs('::ffff:192.0.2.1', 0)).toBe(0);
});

test('what it remembers is bounded', () => {
  const guesses = createGuesses();
  for (let i = 0; i < 6; i++) guesses.wrong('first', 0);
  for (let i = 0; i < 4096; i++) guesses.wrong(`address ${i}`, 0);
  expect(guesses.waitMs('first', 0)).toBe(0);
});
