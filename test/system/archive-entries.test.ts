import { symlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Code } from '../../src/errors.ts';
import { hostArchive } from '../../src/system/archive.ts';
import { archiveYard, good, refOf, type Yard, zst } from '../support/archive-yard.ts';
import { END, type Lie, member, pax, record, tar } from '../support/tar-maker.ts';

const LIMITS = { maxBytes: 1 << 20, maxEntries: 1000 };

let yard: Yard;
beforeEach(() => {
  yard = archiveYard();
});

const base256 = (value: bigint): Buffer => {
  const field = Buffer.alloc(12, value < 0n ? 0xff : 0);
  field.writeBigInt64BE(value, 4);
  field[0] = value < 0n ? 0xff : 0x80;
  return field;
};

describe('T28 entries that leave the folder, or are not what they seem', () => {
  const link = { name: 'link', type: '2', link: '../../victim' };
  const deep = 'd/'.repeat(4096);
  const cases: readonly [string, Code, readonly (Lie | Buffer)[]][] = [
    ['a name with ..', 'ARCHIVE_UNSAFE', [{ name: '../victim', body: 'x' }]],
    ['a name with .. in the middle', 'ARCHIVE_UNSAFE', [{ name: 'a/../../victim', body: 'x' }]],
    ['.. as a folder', 'ARCHIVE_UNSAFE', [{ name: '../', type: '5' }]],
    ['.. through the prefix field', 'ARCHIVE_UNSAFE', [{ name: 'victim', prefix: '..', body: 'x' }]],
    ['an absolute name', 'ARCHIVE_UNSAFE', [{ name: '/etc/passwd', body: 'x' }]],
    ['an absolute name behind ./', 'ARCHIVE_UNSAFE', [{ name: './/etc/passwd', body: 'x' }]],
    ['an empty name', 'ARCHIVE_UNSAFE', [{ name: '', body: 'x' }]],
    [
      'a name that is the folder itself',
      'ARCHIVE_UNSAFE',
      [
        { name: './', type: '0', body: '' },
        { name: '.', body: 'x' },
      ],
    ],
    ['a double slash', 'ARCHIVE_UNSAFE', [{ name: 'a//b', body: 'x' }]],
    ['a dot in the middle', 'ARCHIVE_UNSAFE', [{ name: 'a/./b', body: 'x' }]],
    ['a backslash', 'ARCHIVE_UNSAFE', [{ name: 'a\\..\\b', body: 'x' }]],
    ['a line break', 'ARCHIVE_UNSAFE', [{ name: 'a\nb', body: 'x' }]],
    ['a right-to-left mark', 'ARCHIVE_UNSAFE', [{ name: 'a\u202egpj.exe', body: 'x' }]],
    ['a zero-width character', 'ARCHIVE_UNSAFE', [{ name: 'a\u200bb', body: 'x' }]],
    ['a name that is not UTF-8', 'ARCHIVE_UNSAFE', [{ name: Buffer.from([0x61, 0xff, 0xfe]), body: 'x' }]],
    ['a name that is not in normal form C', 'ARCHIVE_UNSAFE', [{ name: 'e\u0301', body: 'x' }]],
    ['a name of 256 bytes', 'ARCHIVE_UNSAFE', [pax({ path: 'n'.repeat(256) }), good]],
    ['a symlink', 'ARCHIVE_UNSAFE', [link]],
    ['a symlink and a file through it', 'ARCHIVE_UNSAFE', [link, { name: 'link', body: 'x' }]],
    [
      'a symlink to a folder and a file in it',
      'ARCHIVE_UNSAFE',
      [
        { ...link, link: '../..' },
        { name: 'link/victim', body: 'x' },
      ],
    ],
    ['a hard link out of the folder', 'ARCHIVE_UNSAFE', [{ name: 'hard', type: '1', link: '/etc/shadow' }]],
    ['a hard link to a symlink', 'ARCHIVE_UNSAFE', [good, { name: 'hard', type: '1', link: 'good' }, link]],
    ['a file that carries a link target', 'ARCHIVE_UNSAFE', [{ ...good, link: '../victim' }]],
    ['a character device', 'ARCHIVE_UNSAFE', [{ name: 'null', type: '3' }]],
    ['a block device', 'ARCHIVE_UNSAFE', [{ name: 'sda', type: '4' }]],
    ['a fifo', 'ARCHIVE_UNSAFE', [{ name: 'pipe', type: '6' }]],
    ['a contiguous file', 'ARCHIVE_UNSAFE', [{ name: 'c', type: '7', body: 'x' }]],
    ['a sparse file', 'ARCHIVE_UNSAFE', [{ name: 's', type: 'S', body: 'x' }]],
    ['a GNU long link', 'ARCHIVE_UNSAFE', [{ name: 'K', type: 'K', body: '../victim\0' }, good]],
    ['an unknown type', 'ARCHIVE_UNSAFE', [{ name: 'z', type: 'Z', body: 'x' }]],
    ['a GNU long name with ..', 'ARCHIVE_UNSAFE', [{ name: 'L', type: 'L', body: '../victim\0' }, good]],
    ['a PAX path with ..', 'ARCHIVE_UNSAFE', [pax({ path: '../victim' }), good]],
    ['an absolute PAX path', 'ARCHIVE_UNSAFE', [pax({ path: '/etc/passwd' }), good]],
    ['a PAX linkpath', 'ARCHIVE_UNSAFE', [pax({ linkpath: '../victim' }), good]],
    ['a PAX type', 'ARCHIVE_UNSAFE', [pax({ type: 'SymbolicLink' }), good]],
    ['a PAX sparse map', 'ARCHIVE_UNSAFE', [pax({ 'GNU.sparse.name': '../victim' }), good]],
    ['a PAX mode', 'ARCHIVE_UNSAFE', [pax({ mode: '4755' }), good]],
    ['a NUL in a PAX path', 'ARCHIVE_UNSAFE', [pax({ path: 'good\0/../../victim' }), good]],
    ['a PAX path that is not UTF-8', 'ARCHIVE_MALFORMED', [pax({ path: Buffer.from([0xc3, 0x28]) }), good]],
    ['a global PAX path', 'ARCHIVE_UNSAFE', [pax({ path: 'other' }, 'g'), good]],
    ['a global PAX size', 'ARCHIVE_UNSAFE', [pax({ size: '0' }, 'g'), good]],
    [
      'a PAX key twice',
      'ARCHIVE_MALFORMED',
      [{ type: 'x', body: Buffer.concat([record('path', 'a'), record('path', '../b')]) }, good],
    ],
    ['a PAX record with a wrong length', 'ARCHIVE_MALFORMED', [{ type: 'x', body: '11 path=../x\n' }, good]],
    ['a PAX record without a length', 'ARCHIVE_MALFORMED', [{ type: 'x', body: 'path=../x\n' }, good]],
    [
      'a PAX record behind padding',
      'ARCHIVE_MALFORMED',
      [{ type: 'x', body: Buffer.concat([record('uid', '0'), Buffer.alloc(3), record('path', '../x')]) }, good],
    ],
    ['two PAX headers in a row', 'ARCHIVE_MALFORMED', [pax({ path: 'a' }), pax({ path: '../b' }), good]],
    ['a PAX and a GNU name for one file', 'ARCHIVE_MALFORMED', [pax({ path: 'a' }), { type: 'L', body: 'b\0' }, good]],
    ['a PAX header of a megabyte', 'ARCHIVE_TOO_LARGE', [pax({ comment: 'x'.repeat(1 << 20) }), good]],
    ['a PAX header and nothing after it', 'ARCHIVE_MALFORMED', [pax({ path: 'a' })]],
    [
      'a PAX size that hides a file in another',
      'ARCHIVE_MALFORMED',
      [pax({ size: '0' }), { name: 'a', body: member({ name: '../victim', body: 'x' }) }],
    ],
    ['a PAX size that is larger than the file', 'ARCHIVE_MALFORMED', [pax({ size: '99999' }), good]],
    ['a PAX size in exponent form', 'ARCHIVE_MALFORMED', [pax({ size: '1e3' }), good]],
    ['a hexadecimal PAX size', 'ARCHIVE_MALFORMED', [pax({ size: '0x4' }), good]],
    ['a negative PAX size', 'ARCHIVE_MALFORMED', [pax({ size: '-512' }), good]],
    ['a negative size', 'ARCHIVE_MALFORMED', [{ ...good, size: base256(-512n) }]],
    ['a size of 2^63-1', 'ARCHIVE_TOO_LARGE', [{ ...good, size: base256(2n ** 53n - 1n) }]],
    ['a size that is no number', 'ARCHIVE_MALFORMED', [{ ...good, size: Buffer.from('zzzzzzzzzzz\0') }]],
    ['a size that says more than there is', 'ARCHIVE_MALFORMED', [{ ...good, size: 5000 }]],
    [
      'a folder with content',
      'ARCHIVE_UNSAFE',
      [{ name: 'd/', type: '5', body: member({ name: '../victim', body: 'x' }) }],
    ],
    [
      'a folder with content by PAX',
      'ARCHIVE_MALFORMED',
      [pax({ size: '512' }), { name: 'd/', type: '5' }, Buffer.alloc(512)],
    ],
    ['folders 4096 deep', 'ARCHIVE_UNSAFE', [pax({ path: deep }), { name: 'd', type: '5' }]],
    ['the same file twice', 'ARCHIVE_UNSAFE', [good, good]],
    [
      'the same folder twice',
      'ARCHIVE_UNSAFE',
      [
        { name: 'd/', type: '5' },
        { name: 'd', type: '5' },
      ],
    ],
    ['a file that is a folder later', 'ARCHIVE_UNSAFE', [good, { name: 'good/x', body: 'x' }]],
    [
      'a folder that is a file later',
      'ARCHIVE_UNSAFE',
      [
        { name: 'd/x', body: 'x' },
        { name: 'd', body: 'x' },
      ],
    ],
    ['names that differ in case', 'ARCHIVE_UNSAFE', [good, { name: 'GOOD', body: 'x' }]],
    [
      'folders that differ in case',
      'ARCHIVE_UNSAFE',
      [
        { name: 'a/x', body: 'x' },
        { name: 'A/y', body: 'x' },
      ],
    ],
    [
      'names that differ in their Unicode form',
      'ARCHIVE_UNSAFE',
      [
        { name: 'ﬁle', body: 'x' },
        { name: 'file', body: 'x' },
      ],
    ],
    [
      'names that differ in a sharp s',
      'ARCHIVE_UNSAFE',
      [
        { name: 'straße', body: 'x' },
        { name: 'STRASSE', body: 'x' },
      ],
    ],
    ['an entry after the end marker', 'ARCHIVE_MALFORMED', [good, END, { name: 'late', body: 'x' }]],
    ['an entry after half an end marker', 'ARCHIVE_MALFORMED', [good, Buffer.alloc(512), { name: 'late', body: 'x' }]],
    ['a second archive after the first', 'ARCHIVE_MALFORMED', [tar(good), { name: '../victim', body: 'x' }]],
    [
      'something in the padding of a file',
      'ARCHIVE_MALFORMED',
      [Buffer.concat([member(good).subarray(0, -4), Buffer.from('evil')])],
    ],
    ['a wrong checksum', 'ARCHIVE_MALFORMED', [{ ...good, checksum: 1 }]],
    ['two megabytes of zeros after the end', 'ARCHIVE_TOO_LARGE', [good, Buffer.alloc(2 << 20)]],
  ];

  test.each(cases)('%s', async (_what, code, parts) => {
    await yard.expectRefused(zst(tar(...parts)), code);
    // What came before is not left behind either.
    await yard.expectRefused(zst(tar({ name: 'first/first', body: 'x' }, ...parts)), code);
  });

  test('a size that is no number is refused by our reader, not by an error of the library', async () => {
    for (const size of [base256(2n ** 63n - 1n), Buffer.alloc(12, 0x81)]) {
      await expect(yard.extract(zst(tar({ ...good, size })))).rejects.toThrow('a header has a number that is none');
    }
  });

  test('longer names of both kinds are what the entries behind them are called', async () => {
    const long = [pax({ path: 'd/long', size: '5' }), { name: 'x', body: '12345' }] as const;
    const archive = tar({ name: 'd/', type: '5' }, ...long, { name: 'L', type: 'L', body: 'd/gnu\0' }, good);
    expect((await yard.extract(zst(archive))).entries).toEqual(['d/', 'd/gnu', 'd/long']);
  });

  test('nothing but the end', async () => {
    await yard.expectRefused(zst(END), 'ARCHIVE_MALFORMED');
  });

  test('more entries than allowed, however small', async () => {
    const many = tar(...Array.from({ length: 1001 }, (_, i) => ({ name: `f${i}` })));
    await yard.expectRefused(zst(many), 'ARCHIVE_TOO_LARGE');
  });

  test('more folders than allowed, named only by what is in them', async () => {
    const many = tar(...Array.from({ length: 600 }, (_, i) => ({ name: `a${i}/b/f` })));
    await yard.expectRefused(zst(many), 'ARCHIVE_TOO_LARGE');
  });

  test('10^5 entries of one name cost little before they are refused', async () => {
    const one = member({ name: 'f' });
    const many = zst(Buffer.concat(Array(100_000).fill(one)));
    await yard.expectRefused(many, 'ARCHIVE_UNSAFE');
  });

  test('setuid, setgid, sticky and world-writable bits do not come out', async () => {
    await yard.extract(
      zst(
        tar(
          { name: 'suid', mode: 0o7777, body: 'x' },
          { name: 'd/', type: '5', mode: 0o7777 },
          { name: 'plain', mode: 0o666 },
        ),
      ),
    );
    const { stdout } = await execa('find', [join(yard.root, 'data/out'), '-printf', '%P %m\n']);
    expect(
      stdout
        .split('\n')
        .map((line) => line.trim())
        .sort(),
    ).toEqual(['755', 'd 755', 'plain 644', 'suid 755']);
  });

  test('a symlink in the place of the new folder, or of the archive, is not followed', async () => {
    const bytes = zst(tar(good));
    symlinkSync(yard.root, join(yard.root, 'data/out'));
    await expect(yard.extract(bytes)).rejects.toThrow('EEXIST');
    expect((await readdir(yard.root)).sort()).toEqual(['a.tar.zst', 'data', 'victim']);
    symlinkSync(join(yard.root, 'a.tar.zst'), join(yard.root, 'link'));
    const linked = hostArchive(yard.root).extract({ ...refOf(bytes), path: '/link' }, '/data/other', LIMITS);
    await expect(linked).rejects.toThrow('ELOOP');
  });
});
