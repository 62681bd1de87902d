import { expect, test } from 'vitest';
import { isOneOf, mostOfEach } from './campaign.ts';
import { type CrashState, epochsOf, seededRandom, statesOf } from './crash-states.ts';

const EPOCH = [{ sectors: 8 }, { sectors: 1 }, { sectors: 2048 }];
const states = (seed = 1, epoch = EPOCH): readonly CrashState[] => [...statesOf(epoch, seededRandom(seed))];
const written = ({ parts }: CrashState): string =>
  parts.map(({ write, ranges }) => `${write}${ranges === 'all' ? '' : '~'}`).join(' ');
const ofKind = (kind: CrashState['kind']): readonly string[] =>
  states()
    .filter((state) => state.kind === kind)
    .map(written);

test('nothing, each beginning, and all of it', () => {
  expect(ofKind('prefix')).toEqual(['', '0', '0 1', '0 1 2']);
});

test('a write that overtook all before it, and one that was overtaken by all after it', () => {
  expect(ofKind('only')).toEqual(['1', '2']);
  expect(ofKind('without')).toEqual(['1 2', '0 2']);
});

test('parts of each write that has more than one sector, after those before it or alone', () => {
  expect(ofKind('torn')).toEqual(['0~', '0~', '0~', '0~', '0 1 2~', '2~', '0 1 2~', '2~']);
  for (const { parts, kind } of states()) {
    for (const { write, ranges } of parts) {
      if (ranges === 'all') continue;
      expect(kind).toBe('torn');
      const sectors = EPOCH[write]?.sectors ?? 0;
      expect(ranges.every(([from, to]) => from >= 0 && from < to && to <= sectors)).toBe(true);
      const kept = ranges.reduce((sum, [from, to]) => sum + to - from, 0);
      expect(kept).toBeLessThanOrEqual(sectors);
    }
  }
});

test('writes keep their order, whichever are missing', () => {
  for (const { parts } of states()) {
    expect(parts.map(({ write }) => write)).toEqual(parts.map(({ write }) => write).toSorted((a, b) => a - b));
  }
});

test('the same seed makes the same states, another one others', () => {
  expect(states(7)).toEqual(states(7));
  expect(states(7)).not.toEqual(states(8));
});

test('an epoch of one write in one sector has two states: without it, and with it', () => {
  expect(states(1, [{ sectors: 1 }]).map(written)).toEqual(['', '0']);
});

test('an epoch is what lies between two flushes; one without writes is none', () => {
  const write = (name: string) => ({ kind: 'write', name }) as const;
  const flush = { kind: 'flush' } as const;
  const entries = [flush, write('a'), write('b'), flush, flush, write('c'), flush];
  expect(epochsOf(entries)).toEqual([[write('a'), write('b')], [write('c')]]);
});

test('of each epoch as many as of the others, as far as it has them', () => {
  expect(mostOfEach([3, 2000, 5, 0], 20)).toBe(12);
  expect(mostOfEach([3, 2000, 5, 0], 10_000)).toBe(2000);
  expect(mostOfEach([], 20)).toBe(1);
});

test('evenly among the others', () => {
  const chosen = (some: number, of: number) =>
    Array.from({ length: of }, (_, i) => i).filter((i) => isOneOf(some, of, i));
  expect(chosen(3, 3)).toEqual([0, 1, 2]);
  expect(chosen(2, 10)).toEqual([4, 9]);
  for (const some of [1, 7, 99]) expect(chosen(some, 100)).toHaveLength(some);
});
