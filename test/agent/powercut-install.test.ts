import { describe, expect, test } from 'vitest';
import type { Host } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { agentBench } from '../support/agent-bench.ts';
import { componentRelease, cutEverywhere, fullRelease, type Journey, STARTS } from '../support/agent-powercut.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('T33 the power goes while', () => {
  const bench = agentBench();
  const act = (host: Host) => install(host, {}, {});
  const NOT_KEPT = { backup_before_update: false };
  const someNotKept = { 'host-ui': NOT_KEPT, 'qx-console': NOT_KEPT };
  const JOURNEYS: readonly (readonly [string, number, Journey])[] = [
    ['a full release is installed', 100, { releases: async () => [await fullRelease(bench, '2.0.0')], act }],
    ['components are installed', 75, { releases: async () => [await componentRelease(bench)], act }],
    [
      'components are installed whose backups are not kept',
      80,
      { releases: async () => [await componentRelease(bench, someNotKept)], act },
    ],
  ];

  describe.each(JOURNEYS)('%s:', (_name, atLeast, journey) => {
    test.each(STARTS)(
      'old or new after each effect when %s, and the next install converges',
      async (start) => {
        expect(await cutEverywhere(bench, journey, start)).toBeGreaterThanOrEqual(atLeast);
      },
      240_000,
    );
  });
});
