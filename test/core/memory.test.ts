import { describe, expect, test } from 'vitest';
import { type GoodRelease, isHeldAgainst, withBad, withCommitted, withInterrupted } from '../../src/core/memory.ts';
import { writeDocument } from '../../src/format/document.ts';
import { EMPTY_MEMORY, readMemory } from '../../src/format/journal.ts';

const NOW_MS = Date.parse('2026-11-02T00:00:00Z');
const release = (version: string): GoodRelease => ({
  version,
  release_date: '2026-11-01T00:00:00Z',
  release_digest: version.replaceAll('.', '').padEnd(64, '0'),
  min_rollback_version: null,
});
const good = (...versions: readonly string[]) =>
  versions.reduce((memory, version) => withCommitted(memory, release(version), NOW_MS), EMPTY_MEMORY);
const bad = (version: string) => {
  const { release_digest } = release(version);
  return { version, release_digest, at: '2026-11-02T00:00:00Z', reason: 'taken back' };
};

test('a good release that is taken back makes way for the one before it', () => {
  const memory = withBad(good('1.0.1', '1.1.0'), bad('1.1.0'));
  expect(memory.committed?.version).toBe('1.0.1');
  expect(readMemory(writeDocument(memory))).toEqual(memory);
});

test('finishing the same release twice, as after a crash, does not forget what was before it', () => {
  expect(withBad(good('1.0.1', '1.1.0', '1.1.0'), bad('1.1.0')).committed?.version).toBe('1.0.1');
});

test('behind the one before it nothing is known', () => {
  const memory = withBad(withBad(good('1.0.1', '1.1.0'), bad('1.1.0')), bad('1.0.1'));
  expect(memory.committed).toBeNull();
});

test('a release that never became good takes nothing away', () => {
  expect(withBad(good('1.0.1'), bad('1.1.0')).committed?.version).toBe('1.0.1');
});

describe('a release whose trial the host itself had ended', () => {
  const interrupted = (...ids: readonly string[]) =>
    ids.reduce((memory, id) => withInterrupted(memory, { ...bad('1.1.0'), id }), good('1.0.1')).bad[0];
  const HOUR_MS = 3_600_000;
  const atMs = Date.parse(bad('1.1.0').at);

  test.each([
    [1, 1],
    [2, 6],
    [3, 24],
  ])('is held back after %i such trials for %i hours', (times, hours) => {
    const entry = interrupted(...Array.from({ length: times }, (_, n) => `update${n}`));
    expect(entry).toMatchObject({ times, until: new Date(atMs + hours * HOUR_MS).toISOString() });
    if (entry === undefined) return;
    expect(isHeldAgainst(entry, atMs)).toBe(true);
    expect(isHeldAgainst(entry, atMs + hours * HOUR_MS - 1)).toBe(true);
    expect(isHeldAgainst(entry, atMs + hours * HOUR_MS)).toBe(false);
    // The clock was years ahead when it was written.
    expect(isHeldAgainst(entry, atMs - HOUR_MS)).toBe(false);
  });

  test('is not tried a fourth time by itself', () => {
    const entry = interrupted('update0', 'update1', 'update2', 'update3');
    expect(entry).toMatchObject({ times: 4 });
    expect(entry?.until).toBeUndefined();
    expect(entry && isHeldAgainst(entry, atMs + 1000 * HOUR_MS)).toBe(true);
  });

  test('is counted once for each update, however often its end is written', () => {
    expect(interrupted('update0', 'update0', 'update0')).toMatchObject({ times: 1 });
  });

  test('is bad like any other once it failed by its own fault, and nothing is held against it once it is good', () => {
    const memory = withInterrupted(good('1.0.1'), { ...bad('1.1.0'), id: 'update0' });
    expect(withBad(memory, bad('1.1.0')).bad).toEqual([bad('1.1.0')]);
    expect(withCommitted(memory, release('1.1.0'), NOW_MS).bad).toEqual([]);
    expect(readMemory(writeDocument(memory))).toEqual(memory);
  });
});

test('a date that lay ahead when the release was taken is marked as none to go by', () => {
  const ahead = { ...release('1.1.0'), release_date: '2099-01-01T00:00:00Z' };
  expect(withCommitted(EMPTY_MEMORY, ahead, NOW_MS).committed).toMatchObject({ dated_ahead: true });
  expect(good('1.1.0').committed).not.toHaveProperty('dated_ahead');
});
