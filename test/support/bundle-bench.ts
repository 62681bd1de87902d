import { expect } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import type { Host } from '../../src/agent/host.ts';
import { type BundleRequest, installBundle } from '../../src/agent/install-bundle.ts';
import { QxError } from '../../src/errors.ts';
import { agentBench } from './agent-bench.ts';
import type { TestHost } from './agent-host.ts';
import type { Release, ReleaseOptions } from './agent-releases.ts';
import { snapshot } from './snapshot.ts';

/** What the tests of offline bundles on a host share. */

export const OLD = { 'host-ui': '1.0.0', 'qx-console': '1.0.0', 'qx-node': '1.0.0' };
export const ALL_NEW = { 'host-ui': '2.0.0', 'qx-console': '2.0.0', 'qx-node': '2.0.0' };

export function bundleBench() {
  const bench = agentBench();
  const full = (options: ReleaseOptions = {}): Promise<Release> =>
    bench.release('2.0.0', { components: ALL_NEW, image: bench.image('2.0.0'), ...options });
  const components = (options: ReleaseOptions = {}): Promise<Release> =>
    bench.release('2.0.0', { components: ALL_NEW, ...options });

  /** A host whose server is down: whatever asks it fails the test. */
  const alone = async (): Promise<TestHost> => {
    const host = await bench.host();
    host.site.goDown(true);
    return host;
  };

  const codeOf = (host: Host, path: string, request: BundleRequest = {}): Promise<string> =>
    installBundle(host, path, request, {}).then(
      (result) => (result.kind === 'refusal' ? result.code : result.kind),
      (error: unknown) => (error instanceof QxError ? error.code : String(error)),
    );

  const refused = async (host: TestHost, path: string, request: BundleRequest = {}): Promise<string> => {
    const before = await snapshot(host.root);
    const code = await codeOf(host, path, request);
    expect(await snapshot(host.root)).toEqual(before);
    expect(host.services.restarts).toEqual([]);
    return code;
  };

  const refusals = async ({ files }: TestHost) =>
    (await readAudit(files)).events.filter(({ event }) => event === 'release_refused').map(({ code }) => code);

  return { bench, full, components, alone, codeOf, refused, refusals };
}
