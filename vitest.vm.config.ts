import { defineConfig } from 'vitest/config';

/** The tests in QEMU, apart from the others: minutes each, one after the other, and with packages of their own. */
export default defineConfig({
  test: {
    // The second is for scripts/powercut.ts alone, the third for `npm run vm:all`.
    include: [
      'test/vm/**/*.test.ts',
      ...(process.env.QX_MINUTES === undefined ? [] : ['test/vm/powercut.long.ts']),
      ...(process.env.QX_ALL === undefined ? [] : ['test/vm/*.all.ts']),
    ],
    pool: 'forks',
    // Each machine keeps one processor busy, and a second one slows both down past what they wait for.
    maxWorkers: 1,
    fileParallelism: false,
    retry: process.env.CI === 'true' ? 1 : 0,
    testTimeout: 15 * 60_000,
    hookTimeout: 60_000,
  },
});
