import { defineConfig } from 'vitest/config';

/** The tests in QEMU, apart from the others: minutes each, two at a time, and with packages of their own. */
export default defineConfig({
  test: {
    // The second is for scripts/powercut.ts alone, the third for `npm run vm:all`.
    include: [
      'test/vm/**/*.test.ts',
      ...(process.env.QX_MINUTES === undefined ? [] : ['test/vm/powercut.long.ts']),
      ...(process.env.QX_ALL === undefined ? [] : ['test/vm/*.all.ts']),
    ],
    pool: 'forks',
    // Each machine keeps one processor busy, of the two that everybody has who runs these.
    maxWorkers: 2,
    globalSetup: 'test/support/setup.ts',
    testTimeout: 15 * 60_000,
    hookTimeout: 60_000,
  },
});
