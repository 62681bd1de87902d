import { expect, test } from 'vitest';
import { slowestFiles } from '../../scripts/summary/slowest.ts';

test('the files that took longest, the longest first, by their path in the project', () => {
  const took = (name: string, tookMs: number) => ({
    name: `/home/me/project/test/${name}`,
    startTime: 1_000,
    endTime: 1_000 + tookMs,
  });
  const testResults = [took('a.test.ts', 70), took('b.test.ts', 123_456), took('c.test.ts', 2_000)];
  expect(slowestFiles({ testResults }, 2, '/home/me/project')).toEqual([
    '  123.5 s  test/b.test.ts',
    '    2.0 s  test/c.test.ts',
  ]);
  expect(slowestFiles({ testResults: [] }, 2, '/home/me/project')).toEqual([]);
});
