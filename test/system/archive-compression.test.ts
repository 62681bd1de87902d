import { writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import { hostArchive } from '../../src/system/archive.ts';
import { archiveYard, good, refOf, type Yard, zst } from '../support/archive-yard.ts';
import { member, tar } from '../support/tar-maker.ts';

const LIMITS = { maxBytes: 1 << 20, maxEntries: 1000 };

let yard: Yard;
beforeEach(() => {
  yard = archiveYard();
});

describe('T29 what decompresses to more, or to something else, than was signed', () => {
  const frame = zst(tar(good));
  const empty = zst(Buffer.alloc(0));
  const skippable = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.alloc(4)]);

  test('a bomb of 16 KB stops at the limit', async () => {
    const head = member({ name: 'bomb', size: 512 << 20 }).subarray(0, 512);
    const bomb = zst(Buffer.concat([head, Buffer.alloc(512 << 20)]));
    expect(bomb.length).toBeLessThan(20_000);
    await yard.expectRefused(bomb, 'ARCHIVE_TOO_LARGE');
  });

  test('a bomb inside an archive is a file like any other', async () => {
    const bomb = zst(Buffer.alloc(64 << 20));
    expect((await yard.extract(zst(tar({ name: 'bomb.zst', body: bomb })))).sizeBytes).toBe(bomb.length);
  });

  test('a window of 2 GiB', async () => {
    const { stdout } = await execa('zstd', ['--ultra', '-22', '--long=31', '-c'], {
      input: tar(good),
      encoding: 'buffer',
    });
    await yard.expectRefused(Buffer.from(stdout), 'ARCHIVE_TOO_LARGE');
  });

  test('10^5 empty frames in front cost next to nothing', async () => {
    const startedMs = performance.now();
    await yard.extract(Buffer.concat([...Array(100_000).fill(empty), frame]));
    expect(performance.now() - startedMs).toBeLessThan(10_000);
  });

  test('10^5 empty frames alone hold nothing', async () => {
    await yard.expectRefused(Buffer.concat(Array(100_000).fill(empty)), 'ARCHIVE_MALFORMED');
  });

  test('skippable frames are signed bytes that say nothing', async () => {
    expect((await yard.extract(Buffer.concat([skippable, frame].toReversed()))).entries).toEqual(['good']);
  });

  test.each([
    ['trailing garbage', Buffer.concat([frame, Buffer.from('garbage')])],
    ['trailing zeros', Buffer.concat([frame, Buffer.alloc(99)])],
    ['a truncated second frame', Buffer.concat([frame, frame.subarray(0, 8)])],
    ['a second archive in a second frame', Buffer.concat([frame, frame])],
    ['a truncated frame', frame.subarray(0, -1)],
    ['half a frame', frame.subarray(0, frame.length >> 1)],
    ['the magic alone', frame.subarray(0, 4)],
    [
      'a damaged checksum',
      Buffer.concat([
        zstdCompressSync(tar(good), { params: { [constants.ZSTD_c_checksumFlag]: 1 } }).subarray(0, -1),
        Buffer.from([0]),
      ]),
    ],
    ['an empty file', Buffer.alloc(0)],
    ['a plain tar', tar(good)],
    ['an archive within an archive', zst(zst(tar(good)))],
    ['truncated gzip', gzipSync(tar(good)).subarray(0, -1)],
    ['gzip with garbage behind', Buffer.concat([gzipSync(tar(good)), Buffer.from('garbage')])],
    ['gzip with zeros behind', Buffer.concat([gzipSync(tar(good)), Buffer.alloc(9)])],
    ['a tar without its end', zst(member(good))],
    ['a tar with half its end', zst(Buffer.concat([member(good), Buffer.alloc(512)]))],
    ['a tar that ends in a file', zst(member({ name: 'a', body: 'x'.repeat(2000) }).subarray(0, 900))],
  ])('%s is refused', async (_what, bytes) => {
    await yard.expectRefused(Buffer.from(bytes), 'ARCHIVE_MALFORMED');
  });

  test('garbage that begins where a read ends is noticed too', async () => {
    const filler = Buffer.from(Array.from({ length: 600_000 }, (_, i) => (i * 2654435761) & 0xff));
    const bytes = zst(tar({ name: 'big', body: filler }));
    for (const extra of [1, 9, 300_000]) {
      await yard.expectRefused(Buffer.concat([bytes, Buffer.alloc(extra, 'x')]), 'ARCHIVE_MALFORMED');
    }
  });

  test('other bytes than those that were signed', async () => {
    const bytes = zst(tar(good));
    const other = zst(tar({ ...good, body: 'evil' }));
    writeFileSync(join(yard.root, 'a.tar.zst'), other);
    const { extract: unpack } = hostArchive(yard.root);
    const signed = { ...refOf(bytes), sizeBytes: other.length };
    await expect(unpack(signed, '/data/out', LIMITS)).rejects.toMatchObject({ code: 'HASH_MISMATCH' });
    await expect(unpack({ ...signed, sizeBytes: other.length + 1 }, '/data/out', LIMITS)).rejects.toMatchObject({
      code: 'SIZE_MISMATCH',
    });
    expect(await readdir(join(yard.root, 'data'))).toEqual([]);
  });

  test('unpacking can be cancelled, and leaves nothing', async () => {
    const bytes = zst(tar(good));
    writeFileSync(join(yard.root, 'a.tar.zst'), bytes);
    const cancelled = hostArchive(yard.root).extract(refOf(bytes), '/data/out', LIMITS, AbortSignal.abort());
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await readdir(join(yard.root, 'data'))).toEqual([]);
  });
});
