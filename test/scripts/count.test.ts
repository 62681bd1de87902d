import { expect, test } from 'vitest';
import { countTests } from '../../scripts/summary/count.ts';

const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((one) => ({ status: one })),
});

test('counts what passed, failed and was skipped', () => {
  const testResults = [file('failed', 'passed', 'failed'), file('passed', 'passed', 'skipped', 'todo', 'pending')];
  expect(countTests({ success: false, testResults })).toEqual({ passed: 2, failed: 1, skipped: 3 });
});

test('a file that broke before its first test is a failure', () => {
  const testResults = [file('failed'), file('passed', 'passed')];
  expect(countTests({ success: false, testResults })).toEqual({ passed: 1, failed: 1, skipped: 0 });
});

test('a file whose tests passed but whose clean-up failed is a failure', () => {
  expect(countTests({ success: false, testResults: [file('failed', 'passed')] })).toMatchObject({ failed: 1 });
});

test('a run that failed without saying where is a failure', () => {
  expect(countTests({ success: false, testResults: [file('passed', 'passed')] })).toMatchObject({ failed: 1 });
  expect(countTests({ success: false, testResults: [] })).toEqual({ passed: 0, failed: 1, skipped: 0 });
});
