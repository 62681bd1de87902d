import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { settleAtStart } from '../../src/agent/daemon.ts';
import { type Host, PATHS } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { recover } from '../../src/agent/recover.ts';
import { QxError } from '../../src/errors.ts';
import { decodeBoot } from '../../src/format/grubenv.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { TestHost } from '../support/agent-host.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  memoryOf,
  systemOn,
} from '../support/agent-machine.ts';
import type { ReleaseOptions } from '../support/agent-releases.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { snapshot } from '../support/snapshot.ts';

const OLD = { 'host-ui': '1.0.0', 'qx-console': '1.0.0', 'qx-node': '1.0.0' };
const ALL_NEW = { 'host-ui': '2.0.0', 'qx-console': '2.0.0', 'qx-node': '2.0.0' };

requires({ commands: IMAGE_COMMANDS })('install fails, and the host is as it was before:', () => {
  const bench = agentBench();
  const full = (options: ReleaseOptions = {}) =>
    bench.release('2.0.0', { components: ALL_NEW, image: bench.image('2.0.0'), ...options });

  const failed = async (host: Host, request: Parameters<typeof install>[1] = {}): Promise<string> =>
    install(host, request, {}).then(
      ({ kind }) => kind,
      (error: unknown) => (error instanceof QxError ? error.code : String(error)),
    );

  const expectOld = async (host: TestHost, code: string) => {
    expect(await installedBytes(host.root)).toEqual(OLD);
    expect(await installedVersions(host.root)).toEqual(OLD);
    expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', pending: false, error: { code } });
    expect((await bootState(host.root)).state).toMatchObject({ order: ['A', 'B'], A: { ok: true }, trial: '' });
    expect(host.outcomes.at(-1)).toMatchObject({ result: 'failed', code });
  };

  describe('a component whose service does not stay up', () => {
    const broken = async (options?: ReleaseOptions) => {
      const host = await bench.host([await full(options)]);
      host.services.broken.add('qx-console 2.0.0');
      return host;
    };

    test('undoes the whole set, and the slot that was written is never armed', async () => {
      const host = await broken();
      expect(await failed(host)).toBe('PROBE_FAILED');
      await expectOld(host, 'PROBE_FAILED');
      expect((await bootState(host.root)).state?.B).toEqual({ ok: false, tries: 0 });
      expect(await host.services.state('quantix-console')).toBe('started');
    });

    test('makes the release a bad one, that no plain install takes again, but one that names it', async () => {
      const host = await broken();
      await failed(host);
      expect((await memoryOf(host.root))?.bad).toMatchObject([{ version: '2.0.0' }]);
      expect(await install(host, {}, {})).toMatchObject({ kind: 'refusal', code: 'RELEASE_BAD' });
      host.services.broken.clear();
      expect(await install(host, { version: '2.0.0' }, {})).toMatchObject({ kind: 'reboot_required' });
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('says nothing of the release after it', async () => {
      const host = await broken();
      await failed(host);
      host.site.publish(await bench.release('3.0.0', { components: { 'qx-console': '3.0.0' } }));
      expect(await install(host, {}, {})).toMatchObject({ kind: 'complete', version: '3.0.0' });
    });
  });

  test('no room for the downloads: nothing is begun, and it is no fault of the release', async () => {
    const host = await bench.host([await full()]);
    const before = await snapshot(host.root);
    expect(await failed({ ...host, files: { ...host.files, freeBytes: async () => 1 << 20 } })).toBe('NO_SPACE');
    await expectOld(host, 'NO_SPACE');
    expect((await bootState(host.root)).state?.B.ok).toBe(true);
    const after = await snapshot(host.root);
    const changed = Object.keys(after).filter((path) => after[path] !== before[path]);
    const noted = ['quantix/ab-update-state.json', 'quantix/limiquantix/history.json'];
    expect(changed.sort()).toEqual(['data/updates', 'data/updates/staging', ...noted]);
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
  });

  test('the disk is full while components are swapped', async () => {
    const host = await bench.host([await full()]);
    const fullDisk = Object.assign(new Error('no space left on device'), { code: 'ENOSPC', syscall: 'write' });
    const duplicate = async () => Promise.reject(fullDisk);
    expect(await failed({ ...host, files: { ...host.files, duplicate } })).toBe('NO_SPACE');
    await expectOld(host, 'NO_SPACE');
    expect((await memoryOf(host.root))?.bad).toEqual([]);
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
  });

  test.each(['qx-console.tar.zst', 'system.squashfs'])('%s has other bytes than were signed', async (artifact) => {
    const release = await full();
    const host = await bench.host([release]);
    const bytes = (release.artifacts.get(artifact) ?? new Uint8Array()).map((byte, i) => (i === 100 ? byte ^ 1 : byte));
    host.site.spoil(artifact, bytes);
    expect(await failed(host)).toBe('HASH_MISMATCH');
    await expectOld(host, 'HASH_MISMATCH');
    expect((await bootState(host.root)).state?.B.ok).toBe(true);
    expect(systemOn(host.root, 'B', bench.known())).toBe('1.0.0');
    expect((await memoryOf(host.root))?.bad ?? []).toEqual([]);
  });

  test('a slot that is too small keeps what it holds', async () => {
    const host = await bench.host([await full()]);
    await truncate(join(host.root, 'slots/b'), bench.image('2.0.0').sizeBytes - 1);
    expect(await failed(host)).toBe('SLOT_TOO_SMALL');
    await expectOld(host, 'SLOT_TOO_SMALL');
    expect((await bootState(host.root)).state?.B.ok).toBe(true);
    expect(await install(host, {}, {})).toMatchObject({ code: 'RELEASE_BAD' });
    // Somebody enlarges it: nothing is wrong with the release.
    await truncate(join(host.root, 'slots/b'), bench.image('2.0.0').sizeBytes);
    host.clock.advance(3_600_000);
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
  });

  test('the server goes away in the middle: the next attempt goes on with what is there', async () => {
    const host = await bench.host([await full()]);
    const get: Host['http']['get'] = async (url, request) => {
      if (url.includes('system.squashfs')) throw new QxError('SERVER_UNREACHABLE', 'gone');
      return host.site.get(url, request);
    };
    expect(await failed({ ...host, http: { get } })).toBe('SERVER_UNREACHABLE');
    await expectOld(host, 'SERVER_UNREACHABLE');
    const fetched = host.site.requests.length;
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    expect(host.site.requests.slice(fetched).filter((path) => path.includes('qx-console'))).toEqual([]);
  });

  test('it is cancelled between two components', async () => {
    const host = await bench.host([await full()]);
    const stop = new AbortController();
    const progress = ({ phase, name }: { phase: string; name: string }) => {
      if (phase === 'applying' && name === 'host-ui') stop.abort();
    };
    await expect(install(host, {}, { signal: stop.signal, progress })).rejects.toMatchObject({ code: 'CANCELLED' });
    await expectOld(host, 'CANCELLED');
  });

  test('the boot environment takes everything but the trial: what was to be armed is withdrawn', async () => {
    const host = await bench.host([await full()]);
    const write: Host['boot']['write'] = async (copy, bytes) => {
      if (decodeBoot(bytes)?.trial !== '') throw new QxError('BOOT_ENV_INVALID', 'worn out');
      return host.boot.write(copy, bytes);
    };
    expect(await failed({ ...host, boot: { ...host.boot, write } })).toBe('BOOT_ENV_INVALID');
    await expectOld(host, 'BOOT_ENV_INVALID');
    expect((await bootState(host.root)).state?.B).toEqual({ ok: false, tries: 0 });
  });

  describe('all components are in place and only the bookkeeping fails:', () => {
    const components = async () => {
      const host = await bench.host([await bench.release('2.0.0', { components: ALL_NEW })]);
      const writeAtomic: Host['files']['writeAtomic'] = (path, ...rest) =>
        path === PATHS.memory ? Promise.reject(new QxError('IO', 'worn out')) : host.files.writeAtomic(path, ...rest);
      expect(await failed({ ...host, files: { ...host.files, writeAtomic } })).toBe('IO');
      expect(await journalOf(host.root)).toMatchObject({ phase: 'applying' });
      return host;
    };

    test('nothing is undone, and the next start finishes it', async () => {
      const host = await components();
      await recover(host);
      expect(await journalOf(host.root)).toMatchObject({ phase: 'complete' });
      expect((await memoryOf(host.root))?.committed).toMatchObject({ version: '2.0.0' });
      expect(await installedVersions(host.root)).toEqual(ALL_NEW);
      expect(host.outcomes).toMatchObject([{ result: 'complete' }]);
    });

    test('it is undone all the same where the new agent did not start meanwhile', async () => {
      const host = await components();
      await writeFile(join(host.root, 'data/versions/qx-node.bad'), '2.0.0\n');
      expect(await settleAtStart(host)).toBe(true);
      expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', error: { code: 'AGENT_FAILED' } });
      expect(await memoryOf(host.root)).toMatchObject({ committed: null, bad: [{ version: '2.0.0' }] });
      expect(await installedVersions(host.root)).toEqual(OLD);
    });
  });

  test('downloads that cannot be removed do not make a failure of what is done', async () => {
    const host = await bench.host([await full()]);
    const remove: Host['files']['remove'] = (path) =>
      path.endsWith('system.squashfs') ? Promise.reject(new QxError('IO', 'worn out')) : host.files.remove(path);
    expect(await failed({ ...host, files: { ...host.files, remove } })).toBe('reboot_required');
    expect(host.log.lines.map(({ event }) => event)).toContain('staging_not_cleared');
  });
});
