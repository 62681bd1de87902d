import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { check } from '../../src/agent/check.ts';
import { confirm } from '../../src/agent/confirm.ts';
import { install } from '../../src/agent/install.ts';
import { rollback } from '../../src/agent/rollback.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { agentBench } from '../support/agent-bench.ts';
import { openHost, steppedClock, type TestHost } from '../support/agent-host.ts';
import { installedBytes, memoryOf, rebootInto } from '../support/agent-machine.ts';
import { memorySite, type Release } from '../support/agent-releases.ts';
import { agentSocket } from '../support/agent-socket.ts';
import { codeOf, expectGivenUp, expectRefusal, expectUntrusted, resigned } from '../support/attacks.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { sha256Of } from '../support/keys.ts';
import { requires } from '../support/requires.ts';
import { snapshot } from '../support/snapshot.ts';

/** Releases with a good signature that are not for this host, not now, or not any more. */

const componentsOf = (version: string) => ({ 'host-ui': version, 'qx-console': version, 'qx-node': version });

requires({ commands: IMAGE_COMMANDS })('a release that somebody did sign', () => {
  const bench = agentBench();
  const release = (version: string, manifest: Partial<Manifest> = {}) =>
    bench.release(version, { components: componentsOf(version), manifest });

  test.each<[string, Partial<Manifest>, string, string?]>([
    ['of product quantix-vdc at the address of quantix-os', { product: 'quantix-vdc' }, 'WRONG_PRODUCT'],
    ['of channel beta served for dev', { channel: 'beta' }, 'WRONG_CHANNEL'],
    ['of channel stable served for dev', { channel: 'stable' }, 'WRONG_CHANNEL'],
    ['of channel beta served for stable', { channel: 'beta' }, 'WRONG_CHANNEL', 'channel: stable'],
    ['for other hardware', { compatible: ['another-board'] }, 'NOT_COMPATIBLE'],
    ['for another architecture', { compatible: ['arm64'] }, 'NOT_COMPATIBLE', 'compatible: [x86-64]'],
  ])('T10 %s', async (_name, manifest, code, setting = 'channel: dev') =>
    expectUntrusted(await bench.host([await release('2.0.0', manifest)], { settings: [setting] }), code),
  );

  test('T10 for nodes of another rollout group: the fleet does not grant it', async () => {
    const host = await bench.host([await release('2.0.0')]);
    host.grants.apply = { granted: false, reason: 'this host is in another stage' };
    await expectRefusal(host, 'OFFER_REFUSED', () => install(host, {}, {}));
  });

  test('T11 the artifact of another product under the same name', async () => {
    const [own, foreign] = [await release('2.0.0'), await release('1.5.0', { product: 'quantix-vdc' })];
    const host = await bench.host([own]);
    host.site.spoil('qx-console.tar.zst', foreign.artifacts.get('qx-console.tar.zst') as Uint8Array);
    await expectGivenUp(host, codeOfArtifact(own, foreign, 'qx-console.tar.zst'));
  });

  describe('T12 replay of an older release that was signed and has not expired', () => {
    const upTo24 = async (): Promise<TestHost> => {
      const host = await bench.host([await release('2.3.0', { sequence: 23 })]);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      host.site.publish(await release('2.4.0', { sequence: 24 }));
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      host.services.restarts.length = 0;
      return host;
    };
    /** What a process that starts now has, in front of a server that has gone back. */
    const again = async (host: TestHost, world: Partial<Parameters<typeof openHost>[0]> = {}) =>
      openHost({ root: host.root, site: memorySite(await release('2.3.0', { sequence: 23 })), ...world });
    const expectReplay = async (host: TestHost) => {
      await expectRefusal(host, 'SEQUENCE_REPLAYED', () => check(host, {}, { known: null }));
      await expectRefusal(host, 'SEQUENCE_REPLAYED', () => install(host, {}, {}));
      // Asked for by name it is no replay, and still older.
      await expectRefusal(host, 'DOWNGRADE', () => install(host, { version: '2.3.0' }, {}));
      expect(await installedBytes(host.root)).toEqual(componentsOf('2.4.0'));
    };

    test('T12 after a reboot into the system that it brought', async () => {
      const whole = { components: componentsOf('2.0.0'), image: bench.image('2.0.0'), manifest: { sequence: 24 } };
      const host = await bench.host([await bench.release('2.0.0', whole)]);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      await rebootInto(host.root, bench.known());
      expect(await confirm(host)).toMatchObject({ kind: 'confirmed' });
      const older = memorySite(await release('1.9.0', { sequence: 23 }));
      const after = await openHost({ root: host.root, site: older });
      await expectRefusal(after, 'SEQUENCE_REPLAYED', () => check(after, {}, { known: null }));
      await expectRefusal(after, 'SEQUENCE_REPLAYED', () => install(after, {}, {}));
      await expectRefusal(after, 'DOWNGRADE', () => install(after, { version: '1.9.0' }, {}));
    });

    test('T12 after the agent was started again', async () => expectReplay(await again(await upTo24())));

    test('T12 after /data/updates, the version files and /run were wiped', async () => {
      const host = await upTo24();
      for (const path of ['data/updates', 'data/versions', 'run']) {
        await rm(join(host.root, path), { recursive: true });
      }
      await expectReplay(await again(host));
    });

    test.each(['1970-01-01T00:00:00Z', '2026-01-02T00:00:00Z'])('T12 with the clock set back to %s', async (now) =>
      expectReplay(await again(await upTo24(), { clock: { ...steppedClock(now), isSynchronised: async () => false } })),
    );

    test('T12 one without a sequence, now that sequences are known', async () => {
      const host = await upTo24();
      host.site.publish(await release('2.5.0'));
      await expectRefusal(host, 'SEQUENCE_MISSING', () => install(host, {}, {}));
    });

    test('T12 after the agent was killed in the middle of the newer one', async () => {
      const host = await bench.host([await release('2.4.0', { sequence: 24 })]);
      const swapped = { ...host.files, duplicate: () => new Promise<never>(() => undefined) };
      // It hangs for ever where the process would have been killed; its lock dies with it.
      void install({ ...host, files: swapped }, {}, {});
      await expect.poll(async () => (await memoryOf(host.root))?.high_water ?? {}).toEqual({ 'quantix-os/dev/1': 24 });
      await expect.poll(() => host.log.lines.map(({ event }) => event)).toContain('component_swap');
      await rm(join(host.root, 'run'), { recursive: true });
      const after = await again(host);
      expect(await codeOf(() => install(after, {}, {}))).toBe('SEQUENCE_REPLAYED');
      await expectRefusal(after, 'SEQUENCE_REPLAYED', () => install(after, {}, {}));
      expect(await installedBytes(after.root)).toEqual(componentsOf('1.0.0'));
    });
  });

  describe('T13 back below the floor', () => {
    const raised = async (): Promise<TestHost> => {
      const host = await bench.host([await release('1.5.0')]);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      host.site.publish(await release('2.0.0', { min_rollback_version: '2.0.0' }));
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      expect((await memoryOf(host.root))?.floor).toBe('2.0.0');
      return host;
    };

    test('T13 by installing the older release, as root and with leave to go lower', async () => {
      const host = await raised();
      await expectRefusal(host, 'BELOW_FLOOR', () => install(host, { version: '1.5.0', allowDowngrade: true }, {}));
    });

    test('T13 by the REST interface: rollback, and apply of the older release', async () => {
      const host = await raised();
      const { ask } = await agentSocket(host);
      const asked = (verb: string, body: unknown) => async () => {
        const { json } = await ask('POST', verb, body);
        return { kind: 'refusal', code: json.code };
      };
      const event = await expectRefusal(host, 'BELOW_FLOOR', asked('rollback', {}));
      expect(event).toMatchObject({ event: 'request_refused', fields: { route: 'rollback' } });
      const older = { version: '1.5.0', allow_downgrade: true };
      const applied = async () => {
        expect(await ask('POST', 'apply', older)).toMatchObject({ status: 200 });
        return { kind: 'refusal', code: 'BELOW_FLOOR' };
      };
      await expectRefusal(host, 'BELOW_FLOOR', applied);
    });

    const upTo20 = async (): Promise<TestHost> => {
      const host = await bench.host([await release('1.5.0')]);
      await install(host, {}, {});
      host.site.publish(await release('2.0.0'));
      await install(host, {}, {});
      return host;
    };

    test('T13 one release back is taken, and the one before that is nothing to go back to, over REST as by the program', async () => {
      const host = await upTo20();
      const { ask } = await agentSocket(host);
      expect(await ask('POST', 'rollback', {})).toMatchObject({ status: 200 });
      expect(await installedBytes(host.root)).toEqual(componentsOf('1.5.0'));
      const before = await snapshot(host.root);
      const again = await ask('POST', 'rollback', {});
      expect([again.status, again.json.code]).toEqual([409, 'NOTHING_TO_ROLL_BACK']);
      expect(await rollback(host, 'once more')).toMatchObject({ kind: 'refusal', code: 'NOTHING_TO_ROLL_BACK' });
      expect(await snapshot(host.root)).toEqual(before);
    });

    test('T13 to the version before the one before, and to one that was never here', async () => {
      const host = await upTo20();
      await expectRefusal(host, 'DOWNGRADE', () => install(host, { version: '1.5.0' }, {}));
      const before = await snapshot(host.root);
      expect(await codeOf(() => install(host, { version: '0.7.0', allowDowngrade: true }, {}))).toBe('NO_RELEASE');
      expect(await snapshot(host.root)).toEqual(before);
      const user = { ...host, isRoot: false };
      const lower = () => install(user, { version: '1.5.0', allowDowngrade: true }, {});
      await expectRefusal(host, 'DOWNGRADE_NEEDS_ROOT', lower);
    });

    test('T13 the floor of a release that did not prove itself does not count', async () => {
      const manifest = { min_rollback_version: '2.0.0' };
      const raises = await bench.release('2.0.0', { components: { 'qx-console': '2.0.0' }, manifest });
      const host = await bench.host([raises]);
      host.services.broken.add('qx-console 2.0.0');
      await expectGivenUp(host, 'PROBE_FAILED');
      expect((await memoryOf(host.root))?.floor).toBeNull();
    });
  });

  describe('T14 versions', () => {
    const made = {} as { release: Release; host: TestHost };
    beforeAll(async () => {
      made.release = await release('2.9.0');
      made.host = await bench.host();
    });

    test.each(['02.4.1', '2.4', '2.4.1\n', 'v2.4.1', `2.4.1-${'a'.repeat(300)}`, '9999999999999999999.0.0', ''])(
      'T14 %j is no version',
      async (version) => {
        made.host.site.publish(await resigned(made.release, { version }));
        await expectUntrusted(made.host, 'MANIFEST_INVALID');
      },
    );

    test.each([
      ['2.10.0', '2.9.0'],
      ['2.9.0', '2.9.0-rc1'],
    ])('T14 %s is newer than %s', async (newer, older) => {
      const host = await bench.host([await release(newer)]);
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
      host.site.publish(await release(older));
      await expectRefusal(host, 'DOWNGRADE', () => install(host, {}, {}));
    });

    test('T14 build metadata makes nothing newer', async () => {
      const host = await bench.host([await release('2.9.0')]);
      await install(host, {}, {});
      host.site.publish(await release('2.9.0+build.7'));
      expect(await codeOf(() => install(host, {}, {}))).toBe('NOTHING_NEWER');
    });
  });

  test('T17 an artifact of 1.5.0 under the manifest of 2.0.0: nothing is activated in part', async () => {
    const [older, newer] = [await release('1.5.0'), await release('2.0.0')];
    const host = await bench.host([newer]);
    host.site.spoil('qx-node.tar.zst', older.artifacts.get('qx-node.tar.zst') as Uint8Array);
    await expectGivenUp(host, codeOfArtifact(newer, older, 'qx-node.tar.zst'));
  });
});

/** Archives of two versions may have the same length. */
function codeOfArtifact(signed: Release, sent: Release, artifact: string): string {
  const [a, b] = [signed.artifacts.get(artifact), sent.artifacts.get(artifact)];
  expect(sha256Of(a as Uint8Array)).not.toBe(sha256Of(b as Uint8Array));
  return a?.length === b?.length ? 'HASH_MISMATCH' : 'SIZE_MISMATCH';
}
