import { describe, expect, test } from 'vitest';
import { readTries } from '../../src/format/tries.ts';

describe('what the boot scripts noted of a trial', () => {
  test.each([
    ['', 0, null],
    ['trial0001 started\n', 1, null],
    ['trial0001 started\ntrial0001 started\ntrial0001 late 600\n', 2, 600],
    ['trial0000 started\ntrial0000 late 600\ntrial0001 started\n', 1, null],
    // Cut short, and of somebody who writes something else there.
    ['trial0001 started\ntrial0001 late', 1, null],
    ['trial0001 late many\ntrial0001\n\0\0\n started\n', 0, null],
  ])('%j', (text, started, timedOutS) => {
    expect(readTries(text, 'trial0001')).toEqual({ started, timedOutS });
  });
});
