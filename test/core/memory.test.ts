import { expect, test } from 'vitest';
import { type GoodRelease, withBad, withCommitted } from '../../src/core/memory.ts';
import { writeDocument } from '../../src/format/document.ts';
import { EMPTY_MEMORY, readMemory } from '../../src/format/journal.ts';

const release = (version: string): GoodRelease => ({
  version,
  release_date: '2026-11-01T00:00:00Z',
  release_digest: version.replaceAll('.', '').padEnd(64, '0'),
  min_rollback_version: null,
});
const good = (...versions: readonly string[]) =>
  versions.reduce((memory, version) => withCommitted(memory, release(version)), EMPTY_MEMORY);
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
