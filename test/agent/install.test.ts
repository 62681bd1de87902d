import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { check } from '../../src/agent/check.ts';
import type { Progress } from '../../src/agent/host.ts';
import { install } from '../../src/agent/install.ts';
import type { InstallRequest } from '../../src/core/plan.ts';
import { agentBench } from '../support/agent-bench.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  memoryOf,
  systemOn,
} from '../support/agent-machine.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

const OLD = { 'host-ui': '1.0.0', 'qx-console': '1.0.0', 'qx-node': '1.0.0' };
const ALL_NEW = { 'host-ui': '2.0.0', 'qx-console': '2.0.0', 'qx-node': '2.0.0' };

requires({ commands: IMAGE_COMMANDS })('install', () => {
  const bench = agentBench();
  const full = () => bench.release('2.0.0', { components: ALL_NEW, image: bench.image('2.0.0') });

  test('a release of components: their bytes, versions and services, and nothing of the slots', async () => {
    const host = await bench.host([await bench.release('2.0.0', { components: ALL_NEW })]);
    const before = await bootState(host.root);
    expect(await install(host, {}, {})).toEqual({ kind: 'complete', version: '2.0.0', restartsAgent: true });
    expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    expect(await installedVersions(host.root)).toEqual(ALL_NEW);
    expect(host.services.restarts).toEqual(['quantix-console', 'quantix-boot']);
    expect(await bootState(host.root)).toEqual(before);
    expect(await journalOf(host.root)).toMatchObject({ phase: 'complete', pending: false, error: null });
    expect((await memoryOf(host.root))?.committed).toMatchObject({ version: '2.0.0' });
    expect(host.outcomes).toMatchObject([{ result: 'complete', release: { version: '2.0.0' } }]);
  });

  test('a full release: the other slot, armed for three tries', async () => {
    const host = await bench.host([await bench.release('2.0.0', { image: bench.image('2.0.0') })]);
    expect(await install(host, {}, {})).toEqual({ kind: 'reboot_required', version: '2.0.0', restartsAgent: false });
    expect([systemOn(host.root, 'A', bench.known()), systemOn(host.root, 'B', bench.known())]).toEqual([
      '1.0.0',
      '2.0.0',
    ]);
    const journal = await journalOf(host.root);
    expect(journal).toMatchObject({ phase: 'armed', pending: true, target_slot: 'B', previous_slot: 'A' });
    expect((await bootState(host.root)).state).toEqual({
      order: ['B', 'A'],
      A: { ok: true, tries: 0 },
      B: { ok: false, tries: 3 },
      trial: journal?.id,
      failed: '',
    });
    expect((await memoryOf(host.root))?.slots.B).toMatchObject({
      version: '2.0.0',
      sha256: bench.image('2.0.0').sha256,
    });
    expect(host.outcomes).toEqual([]);
  });

  test('both at once: the image first, then the components, and the downloads are gone afterwards', async () => {
    const host = await bench.host([await full()]);
    const phases: string[] = [];
    const swaps: Progress[] = [];
    const progress = (told: Progress) => {
      if (phases.at(-1) !== told.phase) phases.push(told.phase);
      if (told.phase === 'applying') swaps.push(told);
    };
    expect(await install(host, {}, { progress })).toMatchObject({ kind: 'reboot_required', restartsAgent: true });
    expect(phases).toEqual(['checking', 'downloading', 'writing', 'applying']);
    // Bytes of archives: what was swapped before, and all of them.
    const [totalBytes = 0, ...others] = [...new Set(swaps.map((told) => told.totalBytes))];
    expect([totalBytes > swaps.length, others]).toEqual([true, []]);
    expect(swaps.map(({ doneBytes }) => doneBytes)).toEqual([0, expect.any(Number), expect.any(Number)]);
    expect(swaps.at(-1)?.doneBytes).toBeGreaterThan(swaps.length);
    expect(swaps.at(-1)?.doneBytes).toBeLessThan(totalBytes);
    expect(systemOn(host.root, 'B', bench.known())).toBe('2.0.0');
    expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    expect(await readdir(join(host.root, 'data/updates/staging'))).toEqual([]);
  });

  test('only the components that were asked for: the host does not have this release then', async () => {
    const host = await bench.host([await full()]);
    expect(await install(host, { components: ['qx-console'] }, {})).toMatchObject({ kind: 'complete' });
    expect(await installedBytes(host.root)).toEqual({ ...OLD, 'qx-console': '2.0.0' });
    expect((await memoryOf(host.root))?.committed ?? null).toBeNull();
    expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required' });
    expect(await installedBytes(host.root)).toEqual(ALL_NEW);
  });

  describe('two updates in a row without a reboot', () => {
    test('the same release again, while it waits for its reboot, is done already', async () => {
      const host = await bench.host([await full()]);
      await install(host, {}, {});
      const waiting = await bootState(host.root);
      expect(await install(host, {}, {})).toEqual({ kind: 'reboot_required', version: '2.0.0', restartsAgent: false });
      expect(await bootState(host.root)).toEqual(waiting);
    });

    test('the second takes the place of the first, whose components are undone before', async () => {
      const host = await bench.host([await full()]);
      await install(host, {}, {});
      const first = await journalOf(host.root);
      const newer = { components: { 'qx-console': '3.0.0' }, image: bench.image('3.0.0') };
      host.site.publish(await bench.release('3.0.0', newer));
      expect(await check(host, {}, { known: null })).toMatchObject({ kind: 'plan', replaces: '2.0.0' });
      expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required', version: '3.0.0' });
      expect(await installedBytes(host.root)).toEqual({ ...OLD, 'qx-console': '3.0.0' });
      expect(await installedVersions(host.root)).toEqual({ ...OLD, 'qx-console': '3.0.0' });
      expect(systemOn(host.root, 'B', bench.known())).toBe('3.0.0');
      const second = await journalOf(host.root);
      expect((await bootState(host.root)).state?.trial).toBe(second?.id);
      expect(second?.components).toMatchObject([{ name: 'qx-console', previous_version: '1.0.0' }]);
      expect(host.outcomes).toMatchObject([{ id: first?.id, result: 'failed', code: 'SUPERSEDED' }]);
    });

    test.each<[what: string, image: boolean, request: InstallRequest]>([
      ['a release of components', false, {}],
      ['one component of a release with an image', true, { components: ['qx-console'] }],
    ])('%s takes no image that waits for its reboot away', async (_what, hasImage, request) => {
      const host = await bench.host([await full()]);
      await install(host, {}, {});
      const [waiting, journal] = [await bootState(host.root), await journalOf(host.root)];
      const image = hasImage ? { image: bench.image('3.0.0') } : {};
      host.site.publish(await bench.release('3.0.0', { components: { 'qx-console': '3.0.0' }, ...image }));
      expect(await install(host, request, {})).toMatchObject({
        kind: 'refusal',
        code: 'REBOOT_PENDING',
        next: expect.stringContaining('qx-update rollback'),
      });
      expect([await bootState(host.root), await journalOf(host.root)]).toEqual([waiting, journal]);
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('a component that both bring in the same version is installed by the second too', async () => {
      const host = await bench.host([await full()]);
      await install(host, {}, {});
      const newer = { components: { ...ALL_NEW, 'qx-node': '3.0.0' }, image: bench.image('3.0.0') };
      host.site.publish(await bench.release('3.0.0', newer));
      expect(await install(host, {}, {})).toMatchObject({ kind: 'reboot_required', version: '3.0.0' });
      expect(await installedBytes(host.root)).toEqual({ ...ALL_NEW, 'qx-node': '3.0.0' });
      expect(await installedVersions(host.root)).toEqual({ ...ALL_NEW, 'qx-node': '3.0.0' });
    });
  });

  describe('going lower', () => {
    const lower = () => bench.release('0.9.0', { components: { 'qx-console': '0.9.0' }, image: bench.image('2.0.0') });

    test('takes root and an explicit wish', async () => {
      const host = await bench.host([await lower()]);
      expect(await install(host, { allowDowngrade: true }, {})).toMatchObject({ kind: 'reboot_required' });
      expect(await installedVersions(host.root)).toEqual({ ...OLD, 'qx-console': '0.9.0' });
    });

    test('never goes below the floor, which rises only with a release that is good', async () => {
      const raising = { components: ALL_NEW, manifest: { min_rollback_version: '1.5.0' } };
      const host = await bench.host([await bench.release('2.0.0', raising)]);
      expect((await memoryOf(host.root))?.floor ?? null).toBeNull();
      await install(host, {}, {});
      expect((await memoryOf(host.root))?.floor).toBe('1.5.0');
      host.site.publish(await lower());
      const request = { allowDowngrade: true, version: '0.9.0' };
      expect(await install(host, request, {})).toMatchObject({ code: 'BELOW_FLOOR' });
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });
  });

  test('a report that cannot be delivered is no reason to fail', async () => {
    const host = await bench.host([await bench.release('2.0.0', { components: ALL_NEW })]);
    const report = { outcome: () => Promise.reject(new Error('no line')) };
    expect(await install({ ...host, report }, {}, {})).toMatchObject({ kind: 'complete' });
    expect(host.log.lines.map(({ event }) => event)).toContain('report_failed');
  });
});
