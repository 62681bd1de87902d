import { describe, expect, test } from 'vitest';
import { select } from '../../src/server/conditional.ts';

const sha256 = 'ab'.repeat(32);
const etag = `"${sha256}"`;
const representation = { sha256, sizeBytes: 100 };
const whole = { kind: 'whole' };
const part = (start: number, end: number) => ({ kind: 'part', start, end });

describe('Range', () => {
  test.each([
    ['bytes=0-0', part(0, 1)],
    ['bytes=0-99', part(0, 100)],
    ['bytes=10-19', part(10, 20)],
    ['bytes=90-', part(90, 100)],
    ['bytes=90-1000', part(90, 100)],
    ['bytes=-10', part(90, 100)],
    ['bytes=-1000', part(0, 100)],
    ['BYTES=1-2', part(1, 3)],
    ['bytes= 1-2 ', part(1, 3)],
  ])('%s', (range, expected) => expect(select({ range }, representation)).toEqual(expected));

  test.each(['bytes=100-', 'bytes=100-200', 'bytes=-0', 'bytes=999999999999999-'])('%s cannot be satisfied', (range) =>
    expect(select({ range }, representation)).toEqual({ kind: 'unsatisfiable' }),
  );

  test.each([
    'bytes=',
    'bytes=-',
    'bytes=5-1',
    'bytes=a-b',
    'bytes=0-1,5-9',
    'items=0-1',
    'bytes=0-9999999999999999',
    'bytes=-1-2',
  ])('%s is ignored', (range) => expect(select({ range }, representation)).toEqual(whole));
});

describe('If-Range', () => {
  const range = 'bytes=10-';
  test.each([
    ['the same strong tag', etag, part(10, 100)],
    ['another tag', '"other"', whole],
    ['a weak tag', `W/${etag}`, whole],
    ['a date', 'Sat, 21 Nov 2026 03:00:00 GMT', whole],
  ])('%s', (_what, ifRange, expected) => {
    expect(select({ range, 'if-range': ifRange }, representation)).toEqual(expected);
  });
});

describe('If-None-Match', () => {
  test.each([etag, '*', `W/${etag}`, `"other", ${etag}`, `"other",W/${etag}`])('%s is unchanged', (tag) => {
    expect(select({ 'if-none-match': tag }, representation)).toEqual({ kind: 'unchanged' });
    expect(select({ 'if-none-match': tag, range: 'bytes=0-1' }, representation)).toEqual({ kind: 'unchanged' });
  });
  test.each(['"other"', '', sha256])('%s is sent whole', (tag) => {
    expect(select({ 'if-none-match': tag }, representation)).toEqual(whole);
  });
});
