import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Minutes each: vitest.vm.config.ts runs them.
    exclude: ['test/vm/**'],
    // Forks, because tests change directory, umask and signal handlers, which threads of one process share.
    pool: 'forks',
    maxWorkers: 4,
    globalSetup: 'test/support/setup.ts',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // What happens in a moment takes longer on a machine that is busy with other tests.
    expect: { poll: { timeout: 20_000 } },
  },
});
