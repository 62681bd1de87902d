import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JOURNEY, JOURNEY_TIMEOUT_MS, type Journey, journeyImages, setOut } from '../support/journey.ts';
import { sha256Of, until } from '../support/journey-host.ts';
import { requires } from '../support/requires.ts';

const options = { timeout: 5 * JOURNEY_TIMEOUT_MS };
const AGENT = 'dist/host/bin/qx-node';
/** Read by the service, so that a test need not wait as long as a host. */
const HASTE = 'respawn_delay=1\n';

/**
 * What is wrong with the agent of a release, and what the report says about each of its starts. In how many more ways one can
 * fail, and what node-run says of it: node-run.test.ts and node-watch.test.ts.
 */
const BROKEN = [
  ['crashes at once', '#!/bin/sh\nexit 1\n', /gone within [0-9]+ s of its start/g],
  ['is half of an executable', null, /could not be executed|gone within [0-9]+ s of its start/g],
] as const;

requires(JOURNEY)('an agent that does not start', () => {
  const imageOf = journeyImages();

  /** Started, healthy, and no longer counted. */
  async function untilProven({ host }: Journey, version: string): Promise<void> {
    await until(`qx-node ${version} is proven`, async () => {
      const isCounted = (await host.run('test', '-e', '/data/updates/node-starts')).exitCode === 0;
      return (await host.text('/data/versions/qx-node.proven')) === version && !isCounted;
    });
  }

  /** A host that runs agent and console 1.0.1 from /data. */
  async function updatedHost(): Promise<Journey> {
    const first = await imageOf('1.0.0', async (tree) => {
      await writeFile(join(tree, 'etc/conf.d/quantix-node'), HASTE);
    });
    const journey = await setOut({ first });
    await publish(journey, '1.0.1', AGENT);
    await journey.host.boot();
    await journey.host.update('apply');
    await untilProven(journey, '1.0.1');
    return journey;
  }

  const publish = async ({ desk, server }: Journey, version: string, agent: string): Promise<void> =>
    desk.publish(server, { version, components: { 'qx-console': await desk.console(version), 'qx-node': agent } });

  /** Agent and console are those of 1.0.1 again, the release is not taken by itself, and everybody is told why. */
  async function expectTakenBack(journey: Journey, version: string, why: RegExp): Promise<void> {
    const { host } = journey;
    await until(
      `release ${version} is taken back`,
      async () => (await host.journal())?.phase === 'rolledBack',
      120_000,
    );
    const { code = '', detail = '' } = (await host.journal())?.error ?? {};
    expect(code).toBe('AGENT_FAILED');
    expect(detail.match(why) ?? detail).toHaveLength(3);
    await host.untilAgentAnswers();
    expect(await host.sha256('/data/bin/qx-node')).toBe(await sha256Of(AGENT));
    expect(await host.text('/data/bin/qx-console')).toMatch(/^VERSION=1\.0\.1$/m);
    expect(await host.text('/data/versions/qx-node.version')).toBe('1.0.1');
    expect(await host.text('/data/versions/qx-console.version')).toBe('1.0.1');
    expect(await host.memory()).toMatchObject({ committed: { version: '1.0.1' } });
    expect((await host.memory()).bad.map((bad) => bad.version)).toContain(version);
    const message = `Rolled back from ${version}: ${detail}`;
    expect(await host.ask('status')).toMatchObject({ status: 'error', message, currentVersion: '1.0.1' });
    expect(await host.text('/var/log/quantix-node.log')).toContain('AGENT_FAILED');
    const again = await host.update('apply');
    expect(again, again.output).toMatchObject({ exitCode: 5, output: expect.stringContaining('RELEASE_BAD') });
  }

  test('the old one comes back with its whole release, and the report says why', options, async () => {
    const journey = await updatedHost();
    const { desk, host } = journey;
    const half = await halfOf(await desk.script('half', ''));
    for (const [i, [fault, text, why]] of BROKEN.entries()) {
      const version = `1.1.${i}`;
      await publish(journey, version, text === null ? half : await desk.script(`agent-${i}`, text));
      await host.update('apply');
      await expectTakenBack(journey, version, why).catch((error: Error) => {
        error.message = `an agent that ${fault}: ${error.message}`;
        throw error;
      });
    }
    // Whoever asks for it by its version gets all of its starts once more.
    await host.update('apply', '--version', `1.1.${BROKEN.length - 1}`);
    await expectTakenBack(journey, `1.1.${BROKEN.length - 1}`, BROKEN[BROKEN.length - 1]?.[2] ?? /nothing/);
  });
});

/** The first half of the real executable, in place of this file. */
async function halfOf(path: string): Promise<string> {
  const bytes = await readFile(AGENT);
  await writeFile(path, bytes.subarray(0, bytes.length >> 1));
  return path;
}
