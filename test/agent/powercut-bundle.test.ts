import { expect, test } from 'vitest';
import type { Host } from '../../src/agent/host.ts';
import { installBundle } from '../../src/agent/install-bundle.ts';
import { agentBench } from '../support/agent-bench.ts';
import { componentRelease, cutEverywhere } from '../support/agent-powercut.ts';
import { bundleBytes, stick } from '../support/bundles.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

requires({ commands: IMAGE_COMMANDS })('T33 the power goes while a bundle is installed:', () => {
  const bench = agentBench();

  // Behind the bundle the journey is the same as from a server, whose cuts are in powercut-install.test.ts.
  test('old or new after each effect, and the next install converges, be it from the server', async () => {
    const release = () => componentRelease(bench);
    const path = await stick().put(bundleBytes(await release()));
    const act = (host: Host) => installBundle(host, path, {}, {});
    const journey = { releases: async () => [await release()], act };
    expect(await cutEverywhere(bench, journey, 'the agent starts again')).toBeGreaterThanOrEqual(75);
  }, 240_000);
});
