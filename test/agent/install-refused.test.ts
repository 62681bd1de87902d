import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { check } from '../../src/agent/check.ts';
import { lookAtHealth } from '../../src/agent/health.ts';
import { PATHS } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import { freshState, invalidate } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { TestHost } from '../support/agent-host.ts';
import { memoryOf, systemOn } from '../support/agent-machine.ts';
import type { ReleaseOptions } from '../support/agent-releases.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { snapshot } from '../support/snapshot.ts';

const OLD = { 'host-ui': '1.0.0', 'qx-console': '1.0.0', 'qx-node': '1.0.0' };
const ALL_NEW = { 'host-ui': '2.0.0', 'qx-console': '2.0.0', 'qx-node': '2.0.0' };

requires({ commands: IMAGE_COMMANDS })('install refuses, and the host stays byte for byte what it was:', () => {
  const bench = agentBench();
  const full = (options: ReleaseOptions = {}) =>
    bench.release('2.0.0', { components: ALL_NEW, image: bench.image('2.0.0'), ...options });

  const refused = async (host: TestHost, request: Parameters<typeof install>[1] = {}) => {
    const before = await snapshot(host.root);
    const result = await install(host, request, {});
    expect(await snapshot(host.root)).toEqual(before);
    expect(host.services.restarts).toEqual([]);
    return result.kind === 'refusal' ? result.code : result.kind;
  };

  test.each<[string, Partial<Manifest>, string]>([
    ['of another product', { product: 'quantix-vdc' }, 'WRONG_PRODUCT'],
    ['of another channel', { channel: 'stable' }, 'WRONG_CHANNEL'],
    ['for other hosts', { compatible: ['another-board'] }, 'NOT_COMPATIBLE'],
    ['that has expired', { expires_at: '2026-11-09T00:00:00Z' }, 'EXPIRED'],
    ['that is dated ahead', { release_date: '2026-11-20T00:00:00Z' }, 'DATED_AHEAD'],
    ['that needs something newer than this host has', { min_version: '1.5.0' }, 'TOO_OLD_TO_UPDATE'],
  ])('a release %s', async (_what, manifest, code) => {
    expect(await refused(await bench.host([await full({ manifest })]))).toBe(code);
  });

  test('an older release, and without root also when it is asked for', async () => {
    const older = await bench.release('0.9.0', { components: { 'qx-console': '0.9.0' } });
    expect(await refused(await bench.host([older]))).toBe('DOWNGRADE');
    const user = await bench.host([older], { isRoot: false });
    expect(await refused(user, { allowDowngrade: true })).toBe('DOWNGRADE_NEEDS_ROOT');
  });

  test('one whose sequence was overtaken, and one without any since', async () => {
    const host = await bench.host([await full({ manifest: { sequence: 7 } })]);
    await check(host, {}, { known: null });
    host.site.publish(await bench.release('2.1.0', { components: ALL_NEW, manifest: { sequence: 6 } }));
    expect(await refused(host)).toBe('SEQUENCE_REPLAYED');
    host.site.publish(await bench.release('2.1.0', { components: ALL_NEW }));
    expect(await refused(host)).toBe('SEQUENCE_MISSING');
    expect((await memoryOf(host.root))?.high_water).toEqual({ 'quantix-os/dev/1': 7 });
  });

  test('one whose signature is not by a key of this host', async () => {
    const release = await full();
    const text = new TextDecoder().decode(release.envelope).replace('2.0.0', '2.0.1');
    const host = await bench.host([{ ...release, envelope: new TextEncoder().encode(text) }]);
    expect(await refused(host)).toBe('SIGNATURE_INVALID');
    expect(await memoryOf(host.root)).toBeNull();
  });

  test('nothing newer, no release at all, a component that is in none', async () => {
    const same = { components: OLD, image: bench.image('1.0.0') };
    expect(await refused(await bench.host([await bench.release('1.0.0', same)]))).toBe('NOTHING_NEWER');
    const host = await bench.host([await full()]);
    expect(await refused(host, { version: '7.0.0' })).toBe('NO_RELEASE');
    expect(await refused(host, { components: ['qx-unheard-of'] })).toBe('NOT_FOUND');
  });

  test('a component whose dependency would not be there', async () => {
    const dependencies = [{ name: 'qx-console', min_version: '1.5.0' }];
    const options = { components: { 'qx-node': '2.0.0' }, fields: { 'qx-node': { dependencies } } };
    expect(await refused(await bench.host([await bench.release('2.0.0', options)]))).toBe('DEPENDENCY_UNMET');
  });

  test('while a grant is missing', async () => {
    const host = await bench.host([await full()]);
    host.grants.apply = { granted: false, reason: 'the cluster is degraded' };
    expect(await refused(host)).toBe('OFFER_REFUSED');
    expect(host.asked).toEqual(['apply 2.0.0']);
    const components = await bench.host([await bench.release('2.0.0', { components: ALL_NEW })]);
    components.grants.apply = { granted: false, reason: 'a drain is open' };
    expect(await refused(components)).toBe('OFFER_REFUSED');
  });

  test('while another update holds the lock', async () => {
    const host = await bench.host([await full()]);
    const unlock = await host.files.lock(PATHS.lock);
    expect(await refused(host)).toBe('BUSY');
    await unlock?.();
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
  });

  test('while the boot environment cannot be written, and not for components alone', async () => {
    const write: TestHost['boot']['write'] = () =>
      Promise.reject(Object.assign(new Error('EROFS: read-only file system'), { code: 'EROFS', syscall: 'open' }));
    const readOnly = (host: TestHost): TestHost => ({ ...host, boot: { ...host.boot, write } });
    const host = await bench.host([await full()]);
    const before = await snapshot(host.root);
    await expect(install(readOnly(host), {}, {})).rejects.toMatchObject({ code: 'BOOT_ENV_READ_ONLY' });
    expect(await snapshot(host.root)).toEqual(before);
    expect(host.site.requests.filter((path) => path.includes('system.squashfs'))).toEqual([]);
    const components = await bench.host([await bench.release('2.0.0', { components: ALL_NEW })]);
    expect(await install(readOnly(components), {}, {})).toMatchObject({ kind: 'complete' });
  });

  test('a target_slot that names the running slot', async () => {
    const full_image = { artifact: 'system.squashfs', size_bytes: bench.image('2.0.0').sizeBytes };
    const image = {
      ...full_image,
      sha256: bench.image('2.0.0').sha256,
      requires_reboot: true,
      target_slot: 'A' as const,
    };
    expect(await refused(await bench.host([await full({ manifest: { full_image: image } })]))).toBe('SLOT_RUNNING');
  });

  test('where /boot is not mounted: nothing is fetched, and the slot that may be the way back stays whole', async () => {
    const host = await bench.host([await full()]);
    for (const copy of ['grubenv', 'grubenv.bak']) await rm(join(host.root, 'boot/grub', copy));
    await expect(install(host, {}, {})).rejects.toMatchObject({ code: 'BOOT_MISSING' });
    expect(host.site.requests.filter((path) => !path.includes('manifest'))).toEqual([]);
    expect(await readdir(join(host.root, 'boot/grub'))).toEqual([]);
    expect(systemOn(host.root, 'B', bench.known())).toBe('1.0.0');
    const { healthy, probes } = await lookAtHealth(host, {});
    expect([healthy, probes.find(({ name }) => name === 'boot')]).toMatchObject([false, { ok: false, fatal: true }]);
  });

  test('without a slot to run from, and on a slot that is not good itself', async () => {
    const live = await bench.host([await full()]);
    await writeFile(join(live.root, 'proc/cmdline'), 'quiet\n');
    expect(await refused(live)).toBe('SLOT_NOT_FOUND');
    const trial = await bench.host([await full()]);
    const state = invalidate({ ...freshState('B'), A: { ok: true, tries: 0 } }, 'A');
    for (const copy of ['grubenv', 'grubenv.bak'])
      await writeFile(join(trial.root, 'boot/grub', copy), encodeBoot(state));
    expect(await refused(trial)).toBe('ON_TRIAL');
  });
});
