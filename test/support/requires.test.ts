import { expect, test } from 'vitest';
import { judge } from './requires.ts';

const laptop = { isRoot: false, hasCommand: (name: string) => name === 'zstd', hasFile: () => false, isCi: false };

test('runs when everything is there', () => {
  expect(judge({ commands: ['zstd'] }, laptop)).toEqual({ run: 'yes' });
  expect(judge({}, laptop)).toEqual({ run: 'yes' });
});

test('skips on a laptop and names everything that is missing', () => {
  const requirements = { root: true, commands: ['zstd', 'losetup'], files: { 'dist/host': 'npm run build -- --host' } };
  expect(judge(requirements, laptop)).toEqual({
    run: 'skip',
    reason: 'needs root, losetup, dist/host (npm run build -- --host)',
  });
});

test('fails in CI when something is missing', () => {
  expect(judge({ root: true }, { ...laptop, isCi: true })).toEqual({ run: 'fail', reason: 'needs root' });
  expect(judge({ root: true }, { ...laptop, isRoot: true, isCi: true })).toEqual({ run: 'yes' });
});
