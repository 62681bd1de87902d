import { expect, test } from 'vitest';
import { CONTACT_WITHIN_MS, type Contact, type ContactVerdict, contactVerdict } from '../../src/core/contact.ts';

const [EARLY, LATE] = [CONTACT_WITHIN_MS - 1, CONTACT_WITHIN_MS];

test.each<[before: boolean, answered: Contact['answered'], mayBeWhy: boolean, sinceMs: number, ContactVerdict]>([
  [true, 'server', true, EARLY, 'over'],
  [true, 'server', true, LATE, 'over'],
  [true, 'gateway', true, LATE, 'over'],
  [true, null, true, EARLY, 'wait'],
  [true, null, true, LATE, 'revert'],
  [true, null, false, EARLY, 'wait'],
  [true, null, false, LATE, 'wait'],
  [false, null, true, EARLY, 'over'],
  [false, null, true, LATE, 'over'],
  [false, null, false, LATE, 'over'],
  [false, 'server', true, LATE, 'over'],
])(
  'answered before: %s; now: %s, the image may be why: %s, after %i ms: %s',
  (before, answered, mayBeWhy, sinceMs, verdict) => {
    expect(contactVerdict(before, { answered, imageMayBeWhy: mayBeWhy }, sinceMs)).toBe(verdict);
  },
);
