import { readFile } from 'node:fs/promises';
import { assert, property, uint8Array } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expectSquashfs, grubWarning, readSquashfs } from '../../src/format/squashfs.ts';
import { IMAGE_COMMANDS, makeImage } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

/** The superblock of an image that mksquashfs 4.5 made: xz, 128 KiB blocks, 1 MiB used. */
function superblock(change: (view: DataView) => void = () => undefined): Uint8Array {
  const view = new DataView(new ArrayBuffer(96));
  view.setUint32(0, 0x73717368, true);
  view.setUint32(12, 131072, true);
  view.setUint16(20, 4, true);
  view.setUint16(22, 17, true);
  view.setUint16(28, 4, true);
  view.setBigUint64(40, 1_048_576n, true);
  view.setBigUint64(64, 1_040_000n, true);
  view.setBigUint64(72, 1_044_000n, true);
  change(view);
  return new Uint8Array(view.buffer);
}

test('reads the superblock wherever it lies in memory', () => {
  const found = { compressor: 'xz', blockBytes: 131072, usedBytes: 1_048_576 };
  expect(readSquashfs(superblock())).toEqual(found);
  const shifted = new Uint8Array(200);
  shifted.set(superblock(), 7);
  expect(readSquashfs(shifted.subarray(7))).toEqual(found);
});

test.each<[string, (view: DataView) => void]>([
  ['another magic number', (view) => view.setUint32(0, 0x68737173, true)],
  ['version 3', (view) => view.setUint16(28, 3, true)],
  ['version 4.1', (view) => view.setUint16(30, 1, true)],
  ['a compressor nobody knows', (view) => view.setUint16(20, 7, true)],
  ['no compressor', (view) => view.setUint16(20, 0, true)],
  ['block sizes that contradict each other', (view) => view.setUint16(22, 18, true)],
  ['blocks over 1 MiB', (view) => [view.setUint32(12, 1 << 21, true), view.setUint16(22, 21, true)]],
  ['blocks under 4 KiB', (view) => [view.setUint32(12, 2048, true), view.setUint16(22, 11, true)]],
  ['a size beyond what can be counted', (view) => view.setBigUint64(40, 2n ** 63n, true)],
  ['inodes behind its end', (view) => view.setBigUint64(64, 1_048_576n, true)],
  ['inodes in the superblock', (view) => view.setBigUint64(64, 95n, true)],
  ['directories behind its end', (view) => view.setBigUint64(72, 2n ** 40n, true)],
  ['directories before inodes', (view) => view.setBigUint64(72, 1_000n, true)],
])('%s is no squashfs', (_, change) => {
  expect(readSquashfs(superblock(change))).toBeNull();
  expect(() => expectSquashfs(superblock(change), 1 << 30)).toThrow(
    expect.objectContaining({ code: 'IMAGE_UNBOOTABLE' }),
  );
});

test('an image that is shorter than its file system is refused, a padded one is not', () => {
  expect(() => expectSquashfs(superblock(), 1_048_575)).toThrow('needs 1048576');
  expect(expectSquashfs(superblock(), 1_048_576).usedBytes).toBe(1_048_576);
  expect(expectSquashfs(superblock(), 1_052_672).usedBytes).toBe(1_048_576);
});

describe('on a bare slot', () => {
  const read = (compressor: number) => readSquashfs(superblock((view) => view.setUint16(20, compressor, true)));
  const warningFor = (compressor: number) => {
    const image = read(compressor);
    if (image === null) throw new Error('not read');
    return grubWarning(image);
  };

  test('xz is taken in silence', () => expect(warningFor(4)).toBeNull());
  test.each([
    [1, 'gzip'],
    [3, 'lzo'],
  ])('compressor %i, %s, is taken with a warning', (id, name) => expect(warningFor(id)).toContain(name));
  test.each([
    [2, 'lzma'],
    [5, 'lz4'],
    [6, 'zstd'],
  ])('compressor %i, %s, is refused with the way out', (id, name) => {
    expect(() => warningFor(id)).toThrow(
      expect.objectContaining({
        code: 'IMAGE_UNBOOTABLE',
        message: expect.stringContaining(name),
        next: expect.stringContaining('-comp xz'),
      }),
    );
  });
});

test('any bytes are judged without an exception, and what is accepted fits together', () => {
  assert(
    property(uint8Array({ maxLength: 200 }), uint8Array({ maxLength: 96 }), (noise, over) => {
      readSquashfs(noise);
      const changed = superblock();
      changed.set(over.subarray(0, 96 - 8), 8);
      const image = readSquashfs(changed);
      if (image === null) return;
      expect(image.blockBytes).toBeGreaterThanOrEqual(4096);
      expect(Number.isSafeInteger(image.usedBytes)).toBe(true);
    }),
  );
});

test('every flipped bit of the superblock is either refused or leaves a file system that fits together', () => {
  for (let bit = 0; bit < 96 * 8; bit++) {
    const changed = superblock();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const image = readSquashfs(changed);
    if (bit < 32) expect(image).toBeNull();
    if (image !== null) expect(image.usedBytes).toBeGreaterThan(1_044_000);
  }
});

requires({ commands: IMAGE_COMMANDS })('images that mksquashfs makes', () => {
  test.each(['xz', 'gzip', 'lzo', 'lz4', 'zstd', 'lzma'])('%s', async (compressor) => {
    const image = await makeImage(await temporaryFolder(), compressor, { compressor });
    const bytes = await readFile(image.path);
    expect(expectSquashfs(bytes, bytes.length)).toMatchObject({ compressor, blockBytes: 131072 });
    expect(expectSquashfs(bytes, bytes.length).usedBytes).toBeGreaterThan(bytes.length - 4096);
  });
});
