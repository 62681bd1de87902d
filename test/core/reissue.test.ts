import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { reissueOf } from '../../src/core/reissue.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { manifestOf } from '../support/keys.ts';

const published = manifestOf({ sequence: 4, expires_at: '2026-12-01T00:00:00Z' });

describe('to a published manifest', () => {
  test.each([
    ['the same fields in another order', Object.fromEntries(Object.entries(published).reverse()), 'same'],
    ['a higher sequence', { ...published, sequence: 5 }, 'refresh'],
    ['a higher sequence and a later end', { ...published, sequence: 9, expires_at: '2027-12-01T00:00:00Z' }, 'refresh'],
    ['a later end alone', { ...published, expires_at: '2027-12-01T00:00:00Z' }, 'different'],
    ['a lower sequence', { ...published, sequence: 3 }, 'different'],
    ['a higher sequence and other notes', { ...published, sequence: 5, release_notes: 'x' }, 'different'],
    ['a field more', { ...published, sequence: 5, future: 1 }, 'different'],
  ])('%s', (_what, offered, relation) => expect(reissueOf(published, offered as Manifest)).toBe(relation));

  test('the first sequence is a refresh of none', () => {
    expect(reissueOf(manifestOf(), manifestOf({ sequence: 1 }))).toBe('refresh');
  });
});

test('of two manifests that differ, at most one refreshes the other', () => {
  const statement = fc.record({
    sequence: fc.option(fc.integer({ min: 1, max: 5 })),
    notes: fc.constantFrom('a', 'b'),
  });
  fc.assert(
    fc.property(statement, statement, (a, b) => {
      const [one, other] = [a, b].map(({ sequence, notes }) =>
        manifestOf({ release_notes: notes, ...(sequence === null ? {} : { sequence }) }),
      ) as [Manifest, Manifest];
      const both = [reissueOf(one, other), reissueOf(other, one)];
      expect(both.filter((relation) => relation === 'refresh').length).toBeLessThanOrEqual(1);
      expect(both.includes('same')).toBe(both[0] === both[1] && both[0] === 'same');
    }),
  );
});
