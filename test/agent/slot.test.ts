import { createHash, randomBytes } from 'node:crypto';
import { rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Progress } from '../../src/agent/host.ts';
import { detectLayout } from '../../src/agent/slot/layout.ts';
import { hashOf, IMAGE_COMMANDS, sharedImages, type TestImage } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import {
  benchesWith,
  grubSees,
  isHeadZero,
  SCRATCH,
  type SlotBench,
  slotHash,
  withMethods,
  writeImage,
} from '../support/slots.ts';

const LAYOUTS = ['raw', 'filesystem'] as const;
const MIB = 1 << 20;

const imageWith = sharedImages();
const benchWith = benchesWith(imageWith);
const otherImage = (): Promise<TestImage> => imageWith({ fillBytes: MIB });

requires({ commands: IMAGE_COMMANDS })('a slot', () => {
  describe.each(LAYOUTS)('in the layout %s', (layout) => {
    test('holds the image, and GRUB finds its kernel', async () => {
      const { bench, image } = await benchWith();
      await writeImage(bench, image, { layout });
      expect(await grubSees(bench, image)).toBe('same');
      const content =
        layout === 'raw'
          ? await bench.disk.hashRange('B', 0, image.sizeBytes)
          : await bench.disk.hashFileInSlot('B', '/quantix/system.squashfs');
      expect(content).toBe(image.sha256);
      expect(await detectLayout(bench.disk, 'auto', 'A', 'B')).toBe(layout);
      expect(await bench.files.info(SCRATCH)).toBeNull();
    });

    test('is told not to be ok after the last refusal and before the first write', async () => {
      const { bench, image } = await benchWith();
      const { events } = bench;
      const disk = withMethods(bench.disk, {
        openForWriting: async (slot) => {
          events.push('open');
          const device = await bench.disk.openForWriting(slot);
          return withMethods(device, {
            write: (offset, bytes) => {
              events.push('write');
              return device.write(offset, bytes);
            },
          });
        },
      });
      await writeImage(bench, image, { layout, ports: { disk } });
      expect(events.slice(0, 3)).toEqual(['open', 'invalidate', 'write']);
      expect(events.filter((event) => event === 'invalidate')).toHaveLength(1);
    });

    test('stays as it was when the boot environment cannot be told', async () => {
      const { bench, image } = await benchWith();
      await writeImage(bench, image, { layout });
      const before = await slotHash(bench);
      const invalidate = () => Promise.reject(new Error('the boot partition is read-only'));
      const next = await otherImage();
      await expect(writeImage(bench, next, { layout, invalidate })).rejects.toThrow('read-only');
      expect(await slotHash(bench)).toBe(before);
    });

    test('takes one image after the other, and the same one again', async () => {
      const { bench, image } = await benchWith();
      const second = await otherImage();
      await writeImage(bench, image, { layout });
      await writeImage(bench, second, { layout });
      expect(await grubSees(bench, second)).toBe('same');
      expect(await grubSees(bench, image)).toBe('other');
      await writeImage(bench, second, { layout });
      expect(await grubSees(bench, second)).toBe('same');
    });

    test('can come from the other layout', async () => {
      const { bench, image } = await benchWith();
      const second = await otherImage();
      await writeImage(bench, image, { layout: layout === 'raw' ? 'filesystem' : 'raw' });
      await writeImage(bench, second, { layout });
      expect(await grubSees(bench, second)).toBe('same');
      expect(await detectLayout(bench.disk, 'auto', 'A', 'B')).toBe(layout);
    });

    test('tells its progress, which never goes back and ends complete', async () => {
      const { bench, image } = await benchWith();
      const told: Progress[] = [];
      await writeImage(bench, image, { layout, watch: { progress: (progress) => told.push(progress) } });
      const done = told.map(({ doneBytes }) => doneBytes);
      expect(done).toEqual([...done].sort((a, b) => a - b));
      expect(done[0]).toBe(0);
      expect(told.at(-1)).toMatchObject({
        phase: 'writing',
        name: basename(image.path),
        doneBytes: told.at(-1)?.totalBytes,
      });
      expect(new Set(told.map(({ totalBytes }) => totalBytes)).size).toBe(1);
      expect(told.length).toBeGreaterThan(4);
    });

    describe('is refused, with nothing changed,', () => {
      test.each<[string, (bench: SlotBench) => Promise<unknown>, object]>([
        ['without a device', (bench) => rm(bench.slotB), { code: 'SLOT_NOT_FOUND' }],
        ['when it is too small', (bench) => truncate(bench.slotB, MIB), { code: 'SLOT_TOO_SMALL' }],
        [
          'when it is the running one under another name',
          async (bench) => {
            await rm(bench.slotB);
            await symlink('slot-a', bench.slotB);
          },
          { code: 'SLOT_RUNNING' },
        ],
      ])('%s', async (_, prepare, expected) => {
        const { bench, image } = await benchWith();
        await prepare(bench);
        const before = await hashOf(join(bench.root, 'slot-a'));
        await expect(writeImage(bench, image, { layout })).rejects.toMatchObject(expected);
        expect(bench.events).toEqual([]);
        expect(await hashOf(join(bench.root, 'slot-a'))).toEqual(before);
        expect(await bench.files.info(SCRATCH)).toBeNull();
      });

      test('when this system runs from it', async () => {
        const { bench, image } = await benchWith();
        await expect(writeImage(bench, image, { layout, running: 'B' })).rejects.toMatchObject({
          code: 'SLOT_RUNNING',
        });
        expect([bench.events, await isHeadZero(bench)]).toEqual([[], true]);
      });

      test('when it is mounted', async () => {
        const { bench, image } = await benchWith();
        const mounted = async (slot: 'A' | 'B') => {
          const device = await bench.disk.device(slot);
          return device && { ...device, isMounted: slot === 'B' };
        };
        const disk = withMethods(bench.disk, { device: mounted });
        await expect(writeImage(bench, image, { layout, ports: { disk } })).rejects.toMatchObject({
          code: 'SLOT_RUNNING',
          next: 'unmount it first',
        });
        expect(bench.events).toEqual([]);
      });

      test('when the bytes are no squashfs', async () => {
        const { bench, image } = await benchWith();
        const path = join(bench.root, 'noise');
        await writeFile(path, randomBytes(2 * MIB));
        const noise = { ...image, path, ...(await hashOf(path)) };
        await expect(writeImage(bench, noise, { layout })).rejects.toMatchObject({ code: 'IMAGE_UNBOOTABLE' });
        expect([bench.events, await isHeadZero(bench)]).toEqual([[], true]);
      });

      test('when it was cancelled before it began', async () => {
        const { bench, image } = await benchWith();
        await writeImage(bench, image, { layout });
        const before = await slotHash(bench);
        bench.events.length = 0;
        const watch = { signal: AbortSignal.abort() };
        await expect(writeImage(bench, image, { layout, watch })).rejects.toMatchObject({ code: 'CANCELLED' });
        expect([bench.events, await slotHash(bench)]).toEqual([[], before]);
      });
    });
  });

  describe('compressors', () => {
    test.each(['zstd', 'lz4', 'lzma'])('%s is refused on a bare slot, as GRUB cannot read it', async (compressor) => {
      const { bench, image } = await benchWith({ compressor });
      const result = writeImage(bench, image, { layout: 'raw' });
      await expect(result).rejects.toMatchObject({ code: 'IMAGE_UNBOOTABLE', next: expect.stringContaining('xz') });
      expect([bench.events, await isHeadZero(bench)]).toEqual([[], true]);
    });

    test.each(['gzip', 'lzo'])('%s is taken on a bare slot, with a warning', async (compressor) => {
      const { bench, image } = await benchWith({ compressor });
      await writeImage(bench, image, { layout: 'raw' });
      expect(await grubSees(bench, image)).toBe('same');
      expect(bench.log.lines).toContainEqual(
        expect.objectContaining({ level: 'warn', event: 'image_unchecked_by_grub' }),
      );
    });

    test.each(['zstd', 'lz4', 'gzip'])('%s is fine inside a file system', async (compressor) => {
      const { bench, image } = await benchWith({ compressor });
      await writeImage(bench, image, { layout: 'filesystem' });
      expect(await grubSees(bench, image)).toBe('same');
      expect(bench.log.lines.filter(({ level }) => level === 'warn')).toEqual([]);
    });
  });

  describe('the file system layout', () => {
    test('carries the version, and only the two boot files', async () => {
      const { bench, image } = await benchWith();
      await writeImage(bench, image, { layout: 'filesystem', version: '3.1.4' });
      const version = createHash('sha256').update('3.1.4\n').digest('hex');
      expect(await bench.disk.hashFileInSlot('B', '/quantix/VERSION')).toBe(version);
    });

    test.each(['none', 'loop'] as const)(
      'refuses an image without a kernel of the right name (%s)',
      async (bootFiles) => {
        const { bench, image } = await benchWith({ bootFiles });
        const result = writeImage(bench, image, { layout: 'filesystem' });
        await expect(result).rejects.toMatchObject({ code: 'IMAGE_UNBOOTABLE' });
        expect([bench.events, await isHeadZero(bench)]).toEqual([[], true]);
      },
    );

    test('says at once when the data partition has no room for it', async () => {
      const { bench, image } = await benchWith();
      const files = withMethods(bench.files, { freeBytes: async () => 2 * image.sizeBytes });
      const result = writeImage(bench, image, { layout: 'filesystem', ports: { files } });
      await expect(result).rejects.toMatchObject({ code: 'NO_SPACE', next: expect.stringContaining('raw') });
      expect(bench.events).toEqual([]);
    });

    test('is refused before any write when only what is around the image does not fit', async () => {
      const { bench, image } = await benchWith();
      await truncate(bench.slotB, Math.ceil(image.sizeBytes / 4096) * 4096);
      const result = writeImage(bench, image, { layout: 'filesystem' });
      await expect(result).rejects.toMatchObject({ code: 'SLOT_TOO_SMALL' });
      expect([bench.events, await isHeadZero(bench)]).toEqual([[], true]);
    });
  });
});
