import { expect, test } from 'vitest';
import type { Host } from '../../src/agent/host.ts';
import { installBundle } from '../../src/agent/install-bundle.ts';
import { agentBench } from '../support/agent-bench.ts';
import { cutEverywhere, fullRelease, STARTS } from '../support/agent-powercut.ts';
import { bundleBytes, stick } from '../support/bundles.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('T33 the power goes while a bundle is installed:', () => {
  const bench = agentBench();

  test.each(STARTS)(
    'old or new after each effect when %s, and the next install converges, be it from the server',
    async (start) => {
      const path = await stick().put(bundleBytes(await fullRelease(bench, '2.0.0')));
      const act = (host: Host) => installBundle(host, path, {}, {});
      const journey = { releases: async () => [await fullRelease(bench, '2.0.0')], act };
      expect(await cutEverywhere(bench, journey, start)).toBeGreaterThanOrEqual(90);
    },
    480_000,
  );
});
