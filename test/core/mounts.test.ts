import { describe, expect, test } from 'vitest';
import { installationOf, mayMark, newPlaces, type Place, placeStates } from '../../src/core/mounts.ts';

const place = (path: string, installation: string | null, change: Partial<Place> = {}): Place => ({
  ...{ path, installation, isKnown: true, isLasting: null },
  ...change,
});
const states = (...places: readonly Place[]) => [...placeStates(places).values()].join(' ');

describe('what is mounted', () => {
  test.each<[string, readonly Place[], string]>([
    [
      'a host of before',
      [place('/boot', null), place('/quantix', null), place('/data', null)],
      'unmarked unmarked unmarked',
    ],
    ['all of one host', [place('/boot', 'a'), place('/quantix', 'a'), place('/data', 'a')], 'mounted mounted mounted'],
    [
      'one that is not mounted',
      [place('/boot', 'a'), place('/quantix', null), place('/data', 'a')],
      'mounted missing mounted',
    ],
    [
      'two that are not',
      [place('/boot', 'a'), place('/quantix', null), place('/data', null)],
      'mounted missing missing',
    ],
    [
      'one of another host',
      [place('/boot', 'a'), place('/quantix', 'a'), place('/data', 'b')],
      'mounted mounted foreign',
    ],
    [
      'one that is damaged',
      [place('/boot', 'a'), place('/quantix', ''), place('/data', 'a')],
      'mounted mounted mounted',
    ],
    [
      'one in memory, on a host of before',
      [place('/boot', null), place('/data', null, { isLasting: false })],
      'unmarked missing',
    ],
    [
      'one in the image, with the mark of the image',
      [place('/boot', 'a'), place('/data', 'a', { isLasting: false })],
      'mounted missing',
    ],
    ['a volume that is new', [place('/boot', 'a'), place('/vol', null, { isKnown: false })], 'mounted unmarked'],
    ['a volume that was marked', [place('/boot', 'a'), place('/vol', null)], 'mounted missing'],
  ])('%s', (_what, places, expected) => expect(states(...places)).toBe(expected));

  test('whose it is, is what most of them say', () => {
    expect(installationOf([place('/boot', 'a'), place('/quantix', 'b'), place('/data', 'b')])).toBe('b');
    expect(installationOf([place('/boot', 'a'), place('/quantix', 'b')])).toBe('a');
    expect(installationOf([place('/boot', ''), place('/quantix', 'b')])).toBe('b');
    expect(installationOf([place('/boot', null)])).toBeNull();
  });
});

describe('marks are written', () => {
  const [BOOT, DATA] = [place('/boot', null), place('/data', null)];
  test.each<[string, boolean, Place[], { isNew: boolean; isKnown: boolean }]>([
    ['on a new host', true, [BOOT, DATA], { isNew: true, isKnown: false }],
    ['where environment and journal both know of updates', true, [BOOT, DATA], { isNew: false, isKnown: true }],
    ['never where the environment alone knows of them', false, [BOOT, DATA], { isNew: false, isKnown: false }],
    ['never where one has a mark already', false, [BOOT, place('/data', 'a')], { isNew: true, isKnown: true }],
    ['never into memory', false, [BOOT, place('/data', null, { isLasting: false })], { isNew: true, isKnown: true }],
  ])('%s', (_what, may, places, evidence) => expect(mayMark(places, evidence)).toBe(may));

  test('on all of them at first, and never again on what has to have one', () => {
    expect(newPlaces([BOOT, DATA], null)).toEqual(['/boot', '/data']);
    expect(newPlaces([place('/boot', 'a'), DATA], 'a')).toEqual([]);
    expect(newPlaces([place('/boot', ''), DATA], '')).toEqual([]);
  });

  test('on a volume once it is there', () => {
    const volume = (change: Partial<Place>) => newPlaces([place('/vol', null, { isKnown: false, ...change })], 'a');
    expect(volume({ isLasting: true })).toEqual(['/vol']);
    expect(volume({ isLasting: false })).toEqual([]);
    expect(volume({ installation: 'a' })).toEqual([]);
  });
});
