import { open, readFile, rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Host } from '../../src/agent/host.ts';
import { installBundle } from '../../src/agent/install-bundle.ts';
import type { OpenBundle } from '../../src/ports/bundle.ts';
import type { TestHost } from '../support/agent-host.ts';
import {
  bootState,
  installedBytes,
  installedVersions,
  journalOf,
  memoryOf,
  systemOn,
} from '../support/agent-machine.ts';
import { ALL_NEW, bundleBench, OLD } from '../support/bundle-bench.ts';
import { artifactEntries, bundleBytes, entry, envelopeEntry, stick } from '../support/bundles.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { snapshot } from '../support/snapshot.ts';
import { END } from '../support/tar-maker.ts';

requires({ commands: IMAGE_COMMANDS })('an offline bundle that was damaged on its way', () => {
  const { bench, full, components, alone, codeOf, refused, refusals } = bundleBench();

  describe('and is not whole changes nothing:', () => {
    test('whatever is missing, added or changed in it', async () => {
      const release = await components();
      const envelope = envelopeEntry(release);
      const [first = END, ...others] = artifactEntries(release);
      const longer = new Map(
        [...release.artifacts].map(([name, bytes], i) => [
          name,
          i === 0 ? Buffer.concat([bytes, Buffer.of(0)]) : bytes,
        ]),
      );
      const cases: readonly (readonly [string, readonly Buffer[]])[] = [
        ['ARTIFACT_MISSING', [envelope, ...others, END]],
        ['ARTIFACT_MISSING', [envelope, END]],
        ['ARTIFACT_UNLISTED', [envelope, first, ...others, entry('extra', 'x'), END]],
        ['SIZE_MISMATCH', [bundleBytes({ ...release, artifacts: longer })]],
        ['BUNDLE_INVALID', [envelope, first, first, ...others, END]],
        ['BUNDLE_INVALID', [first, envelope, ...others, END]],
        ['BUNDLE_INVALID', [envelope, first, ...others]],
        ['BUNDLE_INVALID', [envelope, first, ...others, END, first]],
      ];
      for (const [code, parts] of cases) {
        const host = await alone();
        expect(await refused(host, await stick().put(Buffer.concat(parts)))).toBe(code);
        expect(await refusals(host)).toEqual([code]);
        expect(await memoryOf(host.root)).toBeNull();
      }
    });

    test('cut off at any block', async () => {
      const host = await alone();
      const bytes = bundleBytes(await components());
      const path = await stick().put(bytes);
      const before = await snapshot(host.root);
      for (let size = bytes.length - 512; size >= 0; size -= 512) {
        await truncate(path, size);
        expect(await codeOf(host, path), `${size} bytes`).toBe('BUNDLE_INVALID');
      }
      expect(await snapshot(host.root)).toEqual(before);
    });

    test('a path that leads nowhere is an error of its own', async () => {
      const host = await alone();
      expect(await refused(host, stick().at('absent.qxb'))).toBe('NOT_FOUND');
      expect(await refusals(host)).toEqual(['NOT_FOUND']);
    });

    test('a flipped bit in an envelope or a header', async () => {
      const host = await alone();
      const bytes = bundleBytes(await components());
      const path = await stick().put(bytes);
      const file = await open(path, 'r+');
      const before = await snapshot(host.root);
      const codes = new Set<string>();
      const { length } = envelopeEntry(await components());
      for (let at = 0; at < length + 512; at += 37) {
        await file.write(Buffer.of((bytes[at] ?? 0) ^ 1), 0, 1, at);
        codes.add(await codeOf(host, path));
        await file.write(bytes, at, 1, at);
      }
      await file.close();
      expect(await snapshot(host.root)).toEqual(before);
      expect(codes).toContain('BUNDLE_INVALID');
      expect(codes).toContain('SIGNATURE_INVALID');
      expect(codes).not.toContain('complete');
      expect(await memoryOf(host.root)).toBeNull();
    });
  });

  describe('and has other bytes than were signed fails as a download does:', () => {
    const expectOld = async (host: TestHost, code: string) => {
      expect(await installedBytes(host.root)).toEqual(OLD);
      expect(await installedVersions(host.root)).toEqual(OLD);
      expect(systemOn(host.root, 'B', bench.known())).toBe('1.0.0');
      expect(await journalOf(host.root)).toMatchObject({ phase: 'failed', pending: false, error: { code } });
      expect((await bootState(host.root)).state).toMatchObject({ order: ['A', 'B'], A: { ok: true }, B: { ok: true } });
      expect((await memoryOf(host.root))?.bad ?? []).toEqual([]);
    };

    test.each(['qx-node.tar.zst', 'system.squashfs'])('a flipped bit in %s', async (artifact) => {
      const [host, release] = [await alone(), await full()];
      const flipped = (release.artifacts.get(artifact) ?? new Uint8Array()).map((byte, i) =>
        i === 100 ? byte ^ 1 : byte,
      );
      const bytes = bundleBytes({ ...release, artifacts: new Map([...release.artifacts, [artifact, flipped]]) });
      expect(await codeOf(host, await stick().put(bytes))).toBe('HASH_MISMATCH');
      await expectOld(host, 'HASH_MISMATCH');
      expect(await codeOf(host, await stick().put(bundleBytes(release)))).toBe('reboot_required');
    });

    /** A host that does something to the bundle at the moment when the first artifact is read from it. */
    const meanwhile = (host: TestHost, act: () => Promise<void>): Host => ({
      ...host,
      bundles: {
        open: async (path) => {
          const bundle = await host.bundles.open(path);
          const did = { it: false };
          const read: OpenBundle['read'] = async function* (name, start) {
            if (!name.endsWith('.json') && !did.it) {
              did.it = true;
              await act();
            }
            yield* bundle.read(name, start);
          };
          return { ...bundle, read };
        },
      },
    });

    test('another bundle under the same name, once the first was trusted: it is not looked at', async () => {
      const [host, usb] = [await alone(), stick()];
      const path = await usb.put(bundleBytes(await components()));
      const other = await bench.release('3.0.0', { components: { 'qx-console': '3.0.0' } });
      const swapped = meanwhile(host, async () => rename(await usb.put(bundleBytes(other), 'other'), path));
      expect(await codeOf(swapped, path)).toBe('complete');
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('other bytes in the same file, once it was trusted', async () => {
      const host = await alone();
      const bytes = bundleBytes(await components());
      const path = await stick().put(bytes);
      const evil = Buffer.from(bytes);
      evil.fill('evil', envelopeEntry(await components()).length + 512 + 10, bytes.length - 2048);
      const written = meanwhile(host, () => writeFile(path, evil));
      expect(await codeOf(written, path)).toBe('HASH_MISMATCH');
      await expectOld(host, 'HASH_MISMATCH');
    });

    test('another envelope in the same file, once it was trusted, changes nothing', async () => {
      const host = await alone();
      const bytes = bundleBytes(await components());
      const path = await stick().put(bytes);
      const blank = meanwhile(host, () => writeFile(path, Buffer.from(bytes).fill(0x20, 512, 900)));
      expect(await codeOf(blank, path)).toBe('complete');
      expect(await installedBytes(host.root)).toEqual(ALL_NEW);
    });

    test('a file that is cut off once it was trusted', async () => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await components()));
      expect(
        await codeOf(
          meanwhile(host, () => truncate(path, 2048)),
          path,
        ),
      ).toBe('SIZE_MISMATCH');
      await expectOld(host, 'SIZE_MISMATCH');
    });

    test('a stick that is pulled out in the middle: the next attempt goes on with what is there', async () => {
      const [host, release] = [await alone(), await full()];
      const path = await stick().put(bundleBytes(release));
      const gone = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', syscall: 'read' });
      const pulled: Host = {
        ...host,
        bundles: {
          open: async (name) => {
            const bundle = await host.bundles.open(name);
            const read: OpenBundle['read'] = (entryName, start) => {
              if (entryName === 'system.squashfs') throw gone;
              return bundle.read(entryName, start);
            };
            return { ...bundle, read };
          },
        },
      };
      expect(await codeOf(pulled, path)).toBe('IO');
      await expectOld(host, 'IO');
      expect(await readFile(join(host.root, 'data/updates/staging/qx-node.tar.zst'))).toEqual(
        Buffer.from(release.artifacts.get('qx-node.tar.zst') ?? ''),
      );
      expect(await codeOf(host, path)).toBe('reboot_required');
    });

    test('no room for it: nothing is begun', async () => {
      const host = await alone();
      const path = await stick().put(bundleBytes(await full()));
      const files = { ...host.files, freeBytes: async () => 1 << 20 };
      expect(await codeOf({ ...host, files }, path)).toBe('NO_SPACE');
      await expectOld(host, 'NO_SPACE');
    });

    test('it is cancelled while it is copied', async () => {
      const host = await alone();
      const stop = new AbortController();
      const path = await stick().put(bundleBytes(await full()));
      const stopping = meanwhile(host, async () => stop.abort());
      const result = installBundle(stopping, path, {}, { signal: stop.signal });
      await expect(result).rejects.toMatchObject({ code: 'CANCELLED' });
      await expectOld(host, 'CANCELLED');
    });
  });

  test('is closed again, however it ends', async () => {
    const host = await alone();
    const counts = { open: 0 };
    const counted: Host = {
      ...host,
      bundles: {
        open: async (path) => {
          const bundle = await host.bundles.open(path);
          counts.open++;
          return { ...bundle, close: () => bundle.close().then(() => void counts.open--) };
        },
      },
    };
    const usb = stick();
    const release = await components();
    expect(await codeOf(counted, await usb.put(Buffer.concat([envelopeEntry(release), END])))).toBe('ARTIFACT_MISSING');
    expect(await codeOf(counted, await usb.put(bundleBytes(await full({ manifest: { channel: 'beta' } }))))).toBe(
      'WRONG_CHANNEL',
    );
    expect(await codeOf(counted, await usb.put(bundleBytes(release)))).toBe('complete');
    expect(counts.open).toBe(0);
  });
});
