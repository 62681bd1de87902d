import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Progress } from '../../src/agent/host.ts';
import { type Piece, piecesOfFile } from '../../src/agent/slot/pieces.ts';
import { IMAGE_COMMANDS, sharedImages } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { benchesWith, grubSees, isHeadZero, SCRATCH, stage, stagedPath, writeImage } from '../support/slots.ts';

const LAYOUTS = ['raw', 'filesystem'] as const;
const MIB = 1 << 20;

const imageWith = sharedImages();
const benchWith = benchesWith(imageWith);

async function* inPieces(bytes: Uint8Array, sizeBytes = 300_000, from = 0): AsyncGenerator<Piece> {
  for (let offset = from; offset < bytes.length; offset += sizeBytes) {
    yield { offset, bytes: bytes.subarray(offset, offset + sizeBytes) };
  }
}

const flipped = (bytes: Buffer, at: number): Buffer => {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
};
async function* skipping(bytes: Buffer, at: number): AsyncGenerator<Piece> {
  yield* inPieces(bytes.subarray(0, at));
  yield* inPieces(bytes, MIB, at + 1);
}
async function* failing(bytes: Buffer, at: number): AsyncGenerator<Piece> {
  yield* inPieces(bytes.subarray(0, at));
  throw Object.assign(new Error('read failed'), { code: 'IO' });
}

const drain = async (pieces: AsyncIterable<Piece>): Promise<void> => {
  for await (const piece of pieces) void piece;
};

requires({ commands: IMAGE_COMMANDS })('the stream of an image', () => {
  describe.each(LAYOUTS)('in the layout %s', (layout) => {
    describe('is left unreadable when the stream', () => {
      const broken: [string, (bytes: Buffer) => AsyncIterable<Piece>, string][] = [
        ['has other bytes in its head', (bytes) => inPieces(flipped(bytes, 5000)), 'HASH_MISMATCH'],
        ['has other bytes behind its head', (bytes) => inPieces(flipped(bytes, 2 * MIB)), 'HASH_MISMATCH'],
        ['has another last byte', (bytes) => inPieces(flipped(bytes, bytes.length - 1)), 'HASH_MISMATCH'],
        ['ends early', (bytes) => inPieces(bytes.subarray(0, 2 * MIB)), 'SIZE_MISMATCH'],
        ['is longer', (bytes) => inPieces(Buffer.concat([bytes, Buffer.alloc(1)])), 'SIZE_MISMATCH'],
        ['leaves something out', (bytes) => skipping(bytes, 2 * MIB), 'SIZE_MISMATCH'],
        ['fails', (bytes) => failing(bytes, 2 * MIB), 'IO'],
      ];

      test.each(broken)('%s', async (_, streamOf, code) => {
        const { bench, image } = await benchWith();
        await writeImage(bench, image, { layout });
        const pieces = streamOf(await readFile(image.path));
        await expect(writeImage(bench, image, { layout, pieces })).rejects.toMatchObject({ code });
        // The file system is made from a verified copy: its slot has not been touched by then.
        expect(await grubSees(bench, image)).toBe(layout === 'raw' ? 'none' : 'same');
        expect(await isHeadZero(bench)).toBe(layout === 'raw');
        expect(await bench.files.info(SCRATCH)).toBeNull();
      });

      test('is cancelled on the way', async () => {
        const { bench, image } = await benchWith();
        await writeImage(bench, image, { layout });
        const abort = new AbortController();
        const progress = ({ doneBytes }: Progress) => doneBytes > MIB && abort.abort();
        const watch = { signal: abort.signal, progress: (told: Progress) => void progress(told) };
        await expect(writeImage(bench, image, { layout, watch })).rejects.toMatchObject({ code: 'CANCELLED' });
        expect([await grubSees(bench, image), await isHeadZero(bench)]).toEqual(['none', true]);
      });
    });
  });

  describe('a staged file (T31)', () => {
    test.each(LAYOUTS)('that is renamed over meanwhile is not looked at again (%s)', async (layout) => {
      const { bench, image } = await benchWith();
      await stage(bench, image);
      const path = join(bench.root, stagedPath(image));
      const pieces = piecesOfFile(bench.ranges, stagedPath(image), image.sizeBytes);
      async function* swapping(): AsyncGenerator<Piece> {
        for await (const piece of pieces) {
          yield piece;
          if (piece.offset > 0) continue;
          await writeFile(`${path}.evil`, randomBytes(image.sizeBytes));
          await rename(`${path}.evil`, path);
        }
      }
      await writeImage(bench, image, { layout, pieces: swapping() });
      expect(await grubSees(bench, image)).toBe('same');
    });

    test.each(LAYOUTS)('that is changed through a descriptor somebody kept never boots (%s)', async (layout) => {
      const { bench, image } = await benchWith();
      await stage(bench, image);
      const kept = await open(join(bench.root, stagedPath(image)), 'r+');
      const pieces = piecesOfFile(bench.ranges, stagedPath(image), image.sizeBytes);
      async function* tampering(): AsyncGenerator<Piece> {
        for await (const piece of pieces) {
          if (piece.offset === 0) await kept.write(Buffer.alloc(16, 0xee), 0, 16, image.sizeBytes - 100_000);
          yield piece;
        }
      }
      const result = writeImage(bench, image, { layout, pieces: tampering() });
      await expect(result).rejects.toMatchObject({ code: 'HASH_MISMATCH' });
      await kept.close();
      expect(await grubSees(bench, image)).toBe('none');
    });

    test('that became a link or shorter is refused', async () => {
      const { bench, image } = await benchWith();
      await stage(bench, image);
      const path = join(bench.root, stagedPath(image));
      await truncate(path, image.sizeBytes - 1);
      const pieces = () => piecesOfFile(bench.ranges, stagedPath(image), image.sizeBytes);
      await expect(drain(pieces())).rejects.toMatchObject({ code: 'SIZE_MISMATCH' });
      await rm(path);
      await symlink(image.path, path);
      await expect(drain(pieces())).rejects.toMatchObject({ code: 'ELOOP' });
    });
  });
});
