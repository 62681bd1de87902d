import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { check } from '../../src/agent/check.ts';
import { install } from '../../src/agent/install.ts';
import { installBundle } from '../../src/agent/install-bundle.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  memoryOf,
  systemOn,
} from '../support/agent-machine.ts';
import { ALL_NEW, bundleBench, OLD } from '../support/bundle-bench.ts';
import { bundleBytes, stick } from '../support/bundles.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { snapshot } from '../support/snapshot.ts';

requires({ commands: IMAGE_COMMANDS })('an offline bundle', () => {
  const { bench, full, components, alone, codeOf, refused, refusals } = bundleBench();

  describe('is installed as a release from the server is:', () => {
    test('image and components, and nobody is asked', async () => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await full()));
      const phases = new Set<string>();
      const progress = ({ phase }: { phase: string }) => void phases.add(phase);
      expect(await installBundle(host, path, {}, { progress })).toEqual({
        kind: 'reboot_required',
        version: '2.0.0',
        restartsAgent: true,
      });
      expect([...phases]).toEqual(['checking', 'downloading', 'writing', 'applying']);
      expect(systemOn(host.root, 'B', bench.known())).toBe('2.0.0');
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
      expect(await installedVersions(host.root)).toEqual(ALL_NEW);
      expect(await journalOf(host.root)).toMatchObject({ phase: 'armed', target_slot: 'B', channel: 'dev' });
      expect((await bootState(host.root)).state).toMatchObject({ order: ['B', 'A'], B: { ok: false, tries: 3 } });
      expect(host.site.requests).toEqual([]);
      expect(host.asked).toEqual(['apply 2.0.0']);
    });

    test('the host ends up as it does from the server', async () => {
      const release = await full();
      const [online, offline] = [await bench.host([release]), await alone()];
      await install(online, {}, {});
      await installBundle(offline, await stick().put(bundleBytes(release)), {}, {});
      const slots = [systemOn(offline.root, 'A', bench.known()), systemOn(offline.root, 'B', bench.known())];
      expect(slots).toEqual([systemOn(online.root, 'A', bench.known()), systemOn(online.root, 'B', bench.known())]);
      const [there, here] = [await snapshot(online.root), await snapshot(offline.root)];
      const differs = Object.keys({ ...there, ...here }).filter((path) => there[path] !== here[path]);
      // Only the update's id, and what carries it.
      expect(differs.filter((path) => !/grubenv|ab-update-state|backup|baseline|history/.test(path))).toEqual([]);
    });

    test('only some components', async () => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await full()));
      expect(await codeOf(host, path, { components: ['qx-console'] })).toBe('complete');
      expect(await installedBytes(host.root)).toEqual({ ...OLD, 'qx-console': '2.0.0' });
    });

    test('from a folder, whatever else lies there', async () => {
      const [host, usb, release] = [await alone(), stick(), await components()];
      await mkdir(usb.at('release'));
      await usb.put(release.envelope, 'release/manifest.signed.json');
      for (const [name, bytes] of release.artifacts) await usb.put(bytes, `release/${name}`);
      await writeFile(usb.at('release/manifest.json'), 'whatever');
      expect(await codeOf(host, usb.at('release'))).toBe('complete');
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('over what a broken download left', async () => {
      const [host, release] = [await alone(), await components()];
      const staging = join(host.root, 'data/updates/staging');
      await mkdir(staging, { recursive: true, mode: 0o700 });
      for (const { artifact, sha256 } of release.manifest.components) {
        const bytes = release.artifacts.get(artifact) ?? new Uint8Array();
        await writeFile(join(staging, `${sha256}.part`), bytes.subarray(0, 40), { mode: 0o600 });
        await writeFile(join(staging, `${sha256}.etag`), '"of a server"', { mode: 0o600 });
      }
      expect(await codeOf(host, await stick().put(bundleBytes(release)))).toBe('complete');
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('and the server is asked again afterwards', async () => {
      const host = await bench.host([await bench.release('3.0.0', { components: { 'qx-console': '3.0.0' } })]);
      expect(await codeOf(host, await stick().put(bundleBytes(await components())))).toBe('complete');
      expect(host.site.requests).toEqual([]);
      expect(await check(host, {}, { known: null })).toMatchObject({ kind: 'plan', manifest: { version: '3.0.0' } });
    });

    test('once: the same bundle again is nothing newer', async () => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await components()));
      expect(await codeOf(host, path)).toBe('complete');
      expect(await codeOf(host, path)).toBe('NOTHING_NEWER');
    });
  });

  describe('is trusted no more than a server:', () => {
    test.each<[string, Partial<Manifest>, string]>([
      ['of another product', { product: 'quantix-vdc' }, 'WRONG_PRODUCT'],
      ['of another channel', { channel: 'stable' }, 'WRONG_CHANNEL'],
      ['for other hosts', { compatible: ['another-board'] }, 'NOT_COMPATIBLE'],
      ['that has expired', { expires_at: '2026-11-09T00:00:00Z' }, 'EXPIRED'],
      ['that is dated ahead', { release_date: '2026-11-20T00:00:00Z' }, 'DATED_AHEAD'],
      ['that needs something newer than this host has', { min_version: '1.5.0' }, 'TOO_OLD_TO_UPDATE'],
    ])('a release %s', async (_what, manifest, code) => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await full({ manifest })));
      expect(await refused(host, path)).toBe(code);
      expect(await refusals(host)).toEqual([code]);
    });

    test('one that is not signed, by nobody that is trusted, or was changed afterwards', async () => {
      const release = await full();
      const { manifest, envelope } = release;
      const text = new TextDecoder().decode(envelope);
      const forged: readonly (readonly [string, string])[] = [
        ['UNSIGNED', JSON.stringify(manifest)],
        ['SIGNATURE_INVALID', text.replace('"2.0.0"', '"2.0.1"')],
        ['KEY_UNKNOWN', text.replace('"key_id":"release"', '"key_id":"another"')],
        ['ENVELOPE_MALFORMED', text.slice(0, -5)],
      ];
      for (const [code, changed] of forged) {
        expect(changed).not.toBe(text);
        const host = await alone();
        const path = await stick().put(bundleBytes({ ...release, envelope: Buffer.from(changed) }));
        expect(await refused(host, path)).toBe(code);
        expect(await refusals(host)).toEqual([code]);
        expect(await memoryOf(host.root)).toBeNull();
      }
    });

    test('one whose sequence was overtaken, from wherever', async () => {
      const host = await alone();
      const usb = stick();
      const seven = await usb.put(bundleBytes(await components({ manifest: { sequence: 7 } })), 'seven');
      expect(await codeOf(host, seven)).toBe('complete');
      const six = await bench.release('2.1.0', { components: { 'qx-console': '3.0.0' }, manifest: { sequence: 6 } });
      expect(await codeOf(host, await usb.put(bundleBytes(six), 'six'))).toBe('SEQUENCE_REPLAYED');
      const none = await bench.release('2.1.0', { components: { 'qx-console': '3.0.0' } });
      expect(await codeOf(host, await usb.put(bundleBytes(none), 'none'))).toBe('SEQUENCE_MISSING');
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('an older one, which takes root and an explicit wish, and never goes below the floor', async () => {
      const older = await bench.release('0.9.0', { components: { 'qx-console': '0.9.0' } });
      const path = await stick().put(bundleBytes(older));
      expect(await refused(await alone(), path)).toBe('DOWNGRADE');
      const user = await bench.host([], { isRoot: false });
      expect(await refused(user, path, { allowDowngrade: true })).toBe('DOWNGRADE_NEEDS_ROOT');
      expect(await codeOf(await alone(), path, { allowDowngrade: true })).toBe('complete');
      const risen = await alone();
      const raising = await components({ manifest: { min_rollback_version: '1.5.0' } });
      expect(await codeOf(risen, await stick().put(bundleBytes(raising)))).toBe('complete');
      expect(await codeOf(risen, path, { allowDowngrade: true })).toBe('BELOW_FLOOR');
    });

    test('one that failed on this host before', async () => {
      const host = await alone();
      host.services.broken.add('qx-console 2.0.0');
      const path = await stick().put(bundleBytes(await components()));
      expect(await codeOf(host, path)).toBe('PROBE_FAILED');
      host.services.broken.clear();
      expect(await codeOf(host, path)).toBe('RELEASE_BAD');
      expect(await installedBytes(host.root)).toEqual(OLD);
    });

    test('none while another update runs, or while the offer is refused', async () => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await components()));
      const unlock = await host.files.lock('/run/quantix/update.lock');
      expect(await refused(host, path)).toBe('BUSY');
      await unlock?.();
      host.grants.apply = { granted: false, reason: 'a drain is open' };
      expect(await refused(host, path)).toBe('OFFER_REFUSED');
    });
  });
});
