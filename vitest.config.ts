import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Minutes each: whoever begins them last waits for them alone. */
const LONG = /\/(?:e2e\/journey|agent\/powercut|boot\/grub-states)/;

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification): boolean => LONG.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Minutes each: vitest.vm.config.ts runs them.
    exclude: ['test/vm/**'],
    globalSetup: 'test/support/setup.ts',
    // Forks, because tests change directory, umask and signal handlers, which threads of one process share.
    pool: 'forks',
    // Two for each of the two processors that everybody has who runs these: half of the time a test waits for another process.
    maxWorkers: 4,
    sequence: { sequencer: LongFirst },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // What happens in a moment takes longer on a machine that is busy with other tests.
    expect: { poll: { timeout: 20_000 } },
  },
});
