import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { readTar } from '../../../src/system/archive/tar-reader.ts';
import { hostArchive } from '../../../src/system/archive.ts';
import { END, type Lie, member, pax, record, tar } from '../../support/tar-maker.ts';
import { pure, type Running, type Target } from '../target.ts';

/** Archives of components: the tar inside, and the compressed file as it is unpacked on a host. */

const good: Lie = { name: 'good', body: 'good' };
const valid = tar(
  { name: 'd/', type: '5' },
  pax({ path: 'd/long', size: '5' }),
  { name: 'x', body: '12345' },
  { name: 'L', type: 'L', body: 'd/gnu\0' },
  good,
);

/** T28. */
const TRICKS: Readonly<Record<string, Buffer>> = {
  'above the top': tar({ name: '../x', body: 'x' }),
  absolute: tar({ name: '/etc/passwd', body: 'x' }),
  'a file through a symlink': tar({ name: 'd', type: '2', link: '/etc' }, { name: 'd/x', body: 'x' }),
  'a hard link': tar({ name: 'd', type: '1', link: '/etc/shadow' }),
  'a device': tar({ name: 'd', type: '3' }),
  'a fifo': tar({ name: 'd', type: '6' }),
  'setuid bit': tar({ name: 'd', body: 'x', mode: 0o6755 }),
  'PAX path above the top': tar(pax({ path: '../x' }), good),
  'PAX link': tar(pax({ linkpath: '/etc' }), good),
  'PAX size of another file': tar(pax({ size: '1024' }), good, good),
  'PAX size in hexadecimal': tar(pax({ size: '0x4' }), good),
  'PAX NUL': tar(pax({ path: 'a\0b' }), good),
  'PAX for all': tar(pax({ path: 'x' }, 'g'), good),
  'PAX record too long': tar({ type: 'x', body: '99999 path=x\n' }, good),
  'PAX record of length 0': tar({ type: 'x', body: '0 path=x\n' }, good),
  'PAX key twice': tar({ type: 'x', body: Buffer.concat([record('path', 'a'), record('path', 'b')]) }, good),
  'negative size': tar({ ...good, size: Buffer.alloc(12, 0xff) }),
  'size in base 256': tar({ ...good, size: Buffer.from('800000000000000000000004', 'hex') }),
  'more than all numbers': tar({ ...good, size: Buffer.from('80ffffffffffffffffffffff', 'hex') }),
  'a number of no encoding': tar({ ...good, size: Buffer.alloc(12, 0x81) }),
  'a folder with content': tar({ name: 'd/', type: '5', size: 512 }, member(good)),
  'something behind the end': Buffer.concat([tar(good), tar({ name: 'evil', body: 'x' })]),
  'an entry in the end': Buffer.concat([member(good), Buffer.alloc(512), member(good), END]),
  'hidden in the padding': tar(Buffer.from(member(good)).fill('x', 600, 700)),
  'names that differ in case': tar({ name: 'A', body: 'x' }, { name: 'a', body: 'y' }),
  'names that differ in form': tar({ name: '\u00e9', body: 'x' }, { name: 'e\u0301', body: 'y' }),
  'a file that is a folder': tar({ name: 'a', body: 'x' }, { name: 'a/b', body: 'y' }),
  '4096 folders deep': tar(pax({ path: 'a/'.repeat(4096) }), { name: 'x', type: '5' }),
  '1000 entries': tar(...Array.from({ length: 1000 }, (_, i) => ({ name: `f${i}` }))),
  'zeros without end': Buffer.alloc(3 << 20),
  'the end alone': END,
};

/** A changed header is only looked into when its checksum is right again. */
function resummed(input: Uint8Array): Uint8Array {
  const bytes = Buffer.from(input);
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    if (bytes.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
    bytes.write('        ', at + 148);
    const sum = bytes.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
  }
  return bytes;
}

const REFUSALS = /^ARCHIVE_(UNSAFE|MALFORMED|TOO_LARGE)$/;
const DICTIONARY = [
  'ustar\x0000',
  '\x000',
  '\x005',
  '\0L',
  '\0x',
  '../',
  '/',
  './',
  '\\',
  'path=',
  'size=',
  '12 path=ab\n',
  '10 size=4\n',
  '00000000004\0',
  '\x80',
  '\xff',
];

const tarTarget: Target = {
  name: 'tar',
  seeds: { valid, ...TRICKS },
  dictionary: DICTIONARY,
  refusals: REFUSALS,
  maxBytes: 8192,
  repair: resummed,
  covers: /\/src\/.*\.ts$|\/node_modules\/tar\/dist\/esm\//,
  start: pure(async (bytes) => {
    let sizeBytes = 0;
    for await (const { path, content } of readTar(inPieces(bytes))) {
      assert.ok(!path.startsWith('/') && !path.split('/').includes('..') && !path.includes('\0'));
      for await (const piece of content) sizeBytes += piece.length;
    }
    assert.ok(sizeBytes <= bytes.length);
  }),
};

async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 700) yield bytes.subarray(at, at + 700);
}

const zst = (bytes: Uint8Array): Buffer => zstdCompressSync(bytes);
const frame = zst(tar(good));
const empty = zst(Buffer.alloc(0));
const skippable = Buffer.from('502a4d180400000000000000', 'hex');
/** The head of a frame with a window of 2^(10 + exponent) bytes, and one raw block. */
const windowOf = (exponent: number): Buffer =>
  Buffer.concat([
    Buffer.from('28b52ffd00', 'hex'),
    Buffer.of(exponent << 3),
    Buffer.from('0b0000', 'hex'),
    Buffer.from('x'),
  ]);

const archive: Target = {
  name: 'archive',
  seeds: {
    zstd: zst(valid),
    gzip: gzipSync(valid),
    'with a checksum': zstdCompressSync(valid, { params: { [constants.ZSTD_c_checksumFlag]: 1 } }),
    // T29.
    bomb: zst(Buffer.concat([member({ name: 'bomb', size: 64 << 20 }).subarray(0, 512), Buffer.alloc(64 << 20)])),
    'bomb of gzip': gzipSync(
      Buffer.concat([member({ name: 'bomb', size: 16 << 20 }).subarray(0, 512), Buffer.alloc(16 << 20)]),
    ),
    'window of 128 MiB': windowOf(17),
    'window of 2 GiB': windowOf(21),
    'window of 2^41 bytes': windowOf(31),
    '10^5 empty frames': Buffer.concat(Array(100_000).fill(empty)),
    '10^4 empty frames in front': Buffer.concat([...Array(10_000).fill(empty), frame]),
    'skippable frame behind': Buffer.concat([frame, skippable]),
    'skippable frame in front': Buffer.concat([skippable, frame]),
    'skippable frame of 4 GiB': Buffer.concat([frame, Buffer.from('502a4d18ffffffff', 'hex')]),
    'garbage behind': Buffer.concat([frame, Buffer.from('garbage')]),
    'a second archive behind': Buffer.concat([frame, frame]),
    'cut short': frame.subarray(0, -1),
    'a magic alone': frame.subarray(0, 4),
    nested: zst(frame),
    'a second gzip behind': Buffer.concat([gzipSync(tar(good)), gzipSync(tar(good))]),
    'gzip with a name and a comment': Buffer.concat([
      Buffer.from('1f8b081800000000000361006200', 'hex'),
      gzipSync(valid).subarray(10),
    ]),
    'no archive': 'plain text',
    nothing: '',
    ...cutsOf(zst(valid)),
  },
  dictionary: ['(\xb5/\xfd', 'P*M\x18', '\x1f\x8b\x08', '\0\0\0\0', '\x01\0\0'],
  refusals: REFUSALS,
  maxCpuMs: 5_000,
  maxGrowthBytes: 256 << 20,
  start: () => unpacking((bytes) => bytes),
};

function cutsOf(bytes: Buffer): Target['seeds'] {
  const lengths = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, i) => i * 7);
  return Object.fromEntries(lengths.map((length) => [`cut after ${length} bytes`, bytes.subarray(0, length)]));
}

const unpacked: Target = {
  ...tarTarget,
  name: 'unpacked',
  maxCpuMs: 5_000,
  start: () => unpacking(zst),
};

const LIMITS = { maxBytes: 1 << 16, maxEntries: 50 };

/** A host that has nothing but the archive, and a file beside the folder that no archive may reach. */
async function unpacking(pack: (bytes: Uint8Array) => Uint8Array): Promise<Running> {
  const root = await mkdtemp(join(tmpdir(), 'quantix-fuzz-'));
  await mkdir(join(root, 'data'));
  await writeFile(join(root, 'victim'), 'untouched');
  const run = async (input: Uint8Array): Promise<void> => {
    const bytes = pack(input);
    await writeFile(join(root, 'a.tar.zst'), bytes);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const signed = { path: '/a.tar.zst', sha256, sizeBytes: bytes.length };
    try {
      const { sizeBytes } = await hostArchive(root).extract(signed, '/data/out', LIMITS);
      assert.ok(sizeBytes <= LIMITS.maxBytes);
      assert.deepEqual(await readdir(join(root, 'data')), ['out']);
      await rm(join(root, 'data/out'), { recursive: true });
    } finally {
      assert.deepEqual(await readdir(join(root, 'data')), []);
      assert.deepEqual((await readdir(root)).sort(), ['a.tar.zst', 'data', 'victim']);
      assert.equal(await readFile(join(root, 'victim'), 'utf8'), 'untouched');
    }
  };
  return { run, close: () => rm(root, { recursive: true }) };
}

export const archives: readonly Target[] = [tarTarget, archive, unpacked];
