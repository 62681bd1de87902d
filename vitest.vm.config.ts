import { defineConfig } from 'vitest/config';

/** The tests in QEMU, apart from the others: minutes each, one after the other, and with packages of their own. */
export default defineConfig({
  test: {
    include: ['test/vm/**/*.test.ts'],
    pool: 'forks',
    // Each machine keeps one processor busy, and a second one slows both down past what they wait for.
    maxWorkers: 1,
    fileParallelism: false,
    retry: process.env.CI === 'true' ? 1 : 0,
    testTimeout: 15 * 60_000,
    hookTimeout: 60_000,
  },
});
