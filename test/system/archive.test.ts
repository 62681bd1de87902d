import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { execa } from 'execa';
import fc from 'fast-check';
import { decompress } from 'fzstd';
import { beforeEach, describe, expect, test } from 'vitest';
import { packArchive } from '../../src/system/archive/pack.ts';
import { hostArchive } from '../../src/system/archive.ts';
import { requires } from '../support/requires.ts';
import { END, member, pax, tar } from '../support/tar-maker.ts';
import { temporaryFolder } from '../support/temp.ts';

const LIMITS = { maxBytes: 1 << 24, maxEntries: 1000 };

type Tree = Readonly<Record<string, string | Buffer>>;

let root: string;
beforeEach(async () => {
  root = await temporaryFolder();
});
const at = (path: string): string => join(root, path);

/** Paths that end in `/` are folders. */
function write(top: string, tree: Tree): void {
  for (const [path, content] of Object.entries(tree)) {
    mkdirSync(join(top, path.endsWith('/') ? path : dirname(path)), { recursive: true });
    if (!path.endsWith('/')) writeFileSync(join(top, path), content);
  }
}

async function extract(name: string, limits = LIMITS) {
  const bytes = readFileSync(at(name));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return hostArchive(root).extract({ path: `/${name}`, sha256, sizeBytes: bytes.length }, '/out', limits);
}

const LONG = `${'long-folder-name/'.repeat(8)}${'n'.repeat(200)}.js`;
const TREE: Tree = {
  'index.html': '<p>',
  'assets/a.js': 'a',
  'assets/deep/er/b.js': Buffer.alloc(1_000_000, 'b'),
  'assets/größe.txt': 'ä',
  'empty-file': '',
  'exactly-512': Buffer.alloc(512, 'x'),
  [LONG]: 'long',
  'void/': '',
};

describe('packing', () => {
  test('a folder and back gives the same tree', async () => {
    write(at('src'), TREE);
    const packed = await packArchive(at('src'), at('a.tar.zst'));
    expect(packed.kind).toBe('directory');
    const { entries, sizeBytes } = await extract('a.tar.zst');
    expect(sizeBytes).toBe(packed.unpackedSizeBytes);
    expect(entries).toEqual([...entries].sort());
    expect(entries).toContain('void/');
    expect(entries).toContain(LONG);
    await execa('diff', ['-r', at('src'), at('out')]);
  });

  test('a file becomes one member with its own name, and keeps that it is a program', async () => {
    writeFileSync(at('qx-node'), 'binary');
    chmodSync(at('qx-node'), 0o700);
    const packed = await packArchive(at('qx-node'), at('a.tar.zst'));
    expect(packed.changedModes).toEqual([{ path: 'qx-node', from: 0o700, to: 0o755 }]);
    expect(packed).toMatchObject({ kind: 'file', unpackedSizeBytes: 6, sizeBytes: (await stat(at('a.tar.zst'))).size });
    expect(packed.sha256).toBe(
      createHash('sha256')
        .update(readFileSync(at('a.tar.zst')))
        .digest('hex'),
    );
    expect(await extract('a.tar.zst')).toEqual({ entries: ['qx-node'], sizeBytes: 6 });
    expect((await stat(at('out/qx-node'))).mode & 0o777).toBe(0o755);
  });

  test('the same content gives the same bytes, whoever made it, when, and in which order', async () => {
    write(at('one'), TREE);
    write(at('two'), Object.fromEntries(Object.entries(TREE).reverse()));
    chmodSync(at('two/index.html'), 0o600);
    chmodSync(at('two/assets'), 0o700);
    utimesSync(at('two/assets/a.js'), 1, 1);
    const packed = [await packArchive(at('one'), at('1.tar.zst')), await packArchive(at('two'), at('2.tar.zst'))];
    const said = packed.map(({ changedModes: _, ...same }) => same);
    expect(said[0]).toEqual(said[1]);
    expect(readFileSync(at('1.tar.zst')).equals(readFileSync(at('2.tar.zst')))).toBe(true);
    chmodSync(at('two/index.html'), 0o755);
    expect((await packArchive(at('two'), at('2.tar.zst'))).sha256).not.toBe(packed[0]?.sha256);
  });

  test.each([
    ['a symlink', () => symlinkSync('/etc/passwd', at('src/link')), 'ARCHIVE_UNSAFE'],
    ['names that differ in case', () => write(at('src'), { README: '', readme: '' }), 'ARCHIVE_UNSAFE'],
    ['a name that no host would unpack', () => write(at('src'), { 'a\nb': '' }), 'ARCHIVE_UNSAFE'],
  ])('%s is refused, and no archive is left', async (_what, arrange, code) => {
    write(at('src'), { file: '' });
    arrange();
    await expect(packArchive(at('src'), at('a.tar.zst'))).rejects.toMatchObject({ code });
    expect(await readdir(root)).toEqual(['src']);
  });

  test('an empty folder, a fifo, and what is not there are refused', async () => {
    mkdirSync(at('src'));
    await execa('mkfifo', [at('fifo')]);
    await expect(packArchive(at('src'), at('a'))).rejects.toMatchObject({ code: 'ARCHIVE_UNSAFE' });
    await expect(packArchive(at('fifo'), at('a'))).rejects.toMatchObject({ code: 'ARCHIVE_UNSAFE' });
    await expect(packArchive(at('none'), at('a'))).rejects.toThrow('ENOENT');
    expect(existsSync(at('a'))).toBe(false);
  });

  test('a second, independent decoder reads the same bytes', async () => {
    write(at('src'), TREE);
    await packArchive(at('src'), at('a.tar.zst'));
    const { stdout } = await execa('zstd', ['-dc', at('a.tar.zst')], { encoding: 'buffer', maxBuffer: 1 << 26 });
    expect(Buffer.from(decompress(readFileSync(at('a.tar.zst')))).equals(Buffer.from(stdout))).toBe(true);
  });

  test('any tree with plain names survives', async () => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9 _.-]{0,120}[a-z0-9]$/);
    const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
    const content = fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes));
    const files = fc.uniqueArray(fc.tuple(path, content), {
      minLength: 1,
      maxLength: 8,
      selector: ([p]) => p.split('/')[0],
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(files, async (list) => {
        const tree = Object.fromEntries(list);
        const folder = `run${run++}`;
        write(at(`${folder}/src`), tree);
        const { sha256, sizeBytes } = await packArchive(at(`${folder}/src`), at(`${folder}/a`));
        const ref = { path: `/${folder}/a`, sha256, sizeBytes };
        const { entries } = await hostArchive(root).extract(ref, `/${folder}/out`, LIMITS);
        expect(entries.filter((entry) => !entry.endsWith('/'))).toEqual(Object.keys(tree).sort());
        for (const [file, bytes] of list) expect(await readFile(at(`${folder}/out/${file}`))).toEqual(bytes);
      }),
      { numRuns: 40 },
    );
  });
});

requires({ commands: ['tar', 'zstd', 'gzip'] })('GNU tar', () => {
  test('reads what we pack', async () => {
    write(at('src'), TREE);
    await packArchive(at('src'), at('a.tar.zst'));
    mkdirSync(at('gnu'));
    const { stderr } = await execa('tar', ['--zstd', '-xf', at('a.tar.zst'), '-C', at('gnu')]);
    expect(stderr).toBe('');
    await execa('diff', ['-r', at('src'), at('gnu')]);
    const { stdout } = await execa('tar', ['--zstd', '-tvf', at('a.tar.zst'), '--full-time', '--utc']);
    expect(stdout.split('\n').every((line) => /^[d-]rw.r-.r-. 0\/0 .* 1970-01-01 00:00:00 /.test(line))).toBe(true);
  });

  test.each([
    ['its own format', ['--format=gnu', '-cf']],
    ['the PAX format', ['--format=posix', '-cf']],
    ['the ustar format', ['--format=ustar', '--exclude=long-folder-name*', '-cf']],
    ['the largest blocking factor', ['-b', '2048', '-cf']],
  ])('packs in %s what we read', async (_format, options) => {
    write(at('src'), TREE);
    for (const [compressor, name] of [
      ['--zstd', 'a.tar.zst'],
      ['--gzip', 'a.tgz'],
    ] as const) {
      await execa('tar', ['-C', at('src'), compressor, ...options, at(name), '.']);
      await extract(name);
      const excluded = options.includes('--format=ustar') ? ['-x', 'long-folder-name'] : [];
      await execa('diff', ['-r', ...excluded, at('src'), at('out')]);
      await execa('rm', ['-r', at('out')]);
    }
  });

  test.each([['-1'], ['-19'], ['--long=27'], ['-T0', '--rsyncable']])('zstd %s', async (...flags) => {
    write(at('src'), TREE);
    await execa('sh', [
      '-c',
      `tar -C "$1" -cf - . | zstd ${flags.join(' ')} -o "$2"`,
      'sh',
      at('src'),
      at('a.tar.zst'),
    ]);
    await extract('a.tar.zst');
    await execa('diff', ['-r', at('src'), at('out')]);
  });

  test('a symlink and a hard link among its files are refused', async () => {
    write(at('src'), { a: 'a' });
    symlinkSync('a', at('src/link'));
    await execa('tar', ['-C', at('src'), '--zstd', '-cf', at('a.tar.zst'), '.']);
    await expect(extract('a.tar.zst')).rejects.toMatchObject({ code: 'ARCHIVE_UNSAFE' });
    await execa('rm', [at('src/link')]);
    await execa('ln', [at('src/a'), at('src/b')]);
    await execa('tar', ['-C', at('src'), '--zstd', '-cf', at('a.tar.zst'), '.']);
    await expect(extract('a.tar.zst')).rejects.toMatchObject({ code: 'ARCHIVE_UNSAFE' });
  });
});

describe('unpacking', () => {
  test('the limits are exact', async () => {
    write(at('src'), { a: '12345', 'b/c': '678' });
    await packArchive(at('src'), at('a.tar.zst'));
    await expect(extract('a.tar.zst', { maxBytes: 7, maxEntries: 3 })).rejects.toMatchObject({
      code: 'ARCHIVE_TOO_LARGE',
    });
    await expect(extract('a.tar.zst', { maxBytes: 8, maxEntries: 2 })).rejects.toMatchObject({
      code: 'ARCHIVE_TOO_LARGE',
    });
    expect(await extract('a.tar.zst', { maxBytes: 8, maxEntries: 3 })).toEqual({
      entries: ['a', 'b/', 'b/c'],
      sizeBytes: 8,
    });
  });

  test('what other tars write is read: ./ in front, old headers, records that say nothing', async () => {
    const parts = [
      { name: './', type: '5' },
      { name: './a', body: 'a' },
      { name: 'old', type: '\0', body: 'o' },
    ];
    const noted = [
      pax({ comment: 'commit' }, 'g'),
      pax({ mtime: '1.5', uid: '0', path: './b' }),
      { name: 'x', body: 'b' },
    ];
    writeFileSync(at('a.tgz'), gzipSync(tar(...parts, ...noted, END, Buffer.alloc(512 * 16))));
    expect((await extract('a.tgz')).entries).toEqual(['a', 'b', 'old']);
    expect(member({ name: 'x' })).toHaveLength(512);
  });

  test('defect 15: needs neither tar nor zstd on the host', async () => {
    write(at('src'), { a: 'a' });
    await packArchive(at('src'), at('a.tar.zst'));
    const path = process.env.PATH;
    process.env.PATH = '';
    try {
      expect((await extract('a.tar.zst')).entries).toEqual(['a']);
    } finally {
      process.env.PATH = path;
    }
  });

  test('a full disk leaves nothing behind and says so', async () => {
    write(at('src'), { big: Buffer.alloc(200_000, 'x') });
    await packArchive(at('src'), at('a.tar.zst'));
    // Every write beyond the limit fails, as it does on a full disk.
    const source = `
      import { hostArchive } from ${JSON.stringify(join(import.meta.dirname, '../../src/system/archive.ts'))};
      import { createHash } from 'node:crypto';
      import { readFileSync } from 'node:fs';
      process.on('SIGXFSZ', () => {});
      const bytes = readFileSync(${JSON.stringify(at('a.tar.zst'))});
      const ref = { path: '/a.tar.zst', sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.length };
      await hostArchive(${JSON.stringify(root)}).extract(ref, '/out', { maxBytes: 1e6, maxEntries: 9 }).catch((e) => console.log(e.code));`;
    const { stdout } = await execa('bash', [
      '-c',
      'ulimit -f 100; exec "$0" --input-type=module -e "$1"',
      process.execPath,
      source,
    ]);
    expect(stdout).toBe('EFBIG');
    expect(existsSync(at('out'))).toBe(false);
  });
});
