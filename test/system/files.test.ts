import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Files } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { hostPath } from '../../src/system/host-path.ts';
import { temporaryFolder } from '../support/temp.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

let root: string;
let files: Files;
const at = (path: string): string => join(root, path);
const text = (path: string): string => readFileSync(at(path), 'utf8');

beforeEach(async () => {
  root = await temporaryFolder();
  files = hostFiles(root);
  mkdirSync(at('data'));
});

describe('host paths', () => {
  test.each([
    ['', '/data/x', '/data/x'],
    ['/', '/data/x', '/data/x'],
    ['/r/', '/data//x/', '/r/data/x'],
    ['/r', '/../../etc/passwd', '/r/etc/passwd'],
    ['/r', '/data/../../../etc', '/r/etc'],
    ['/r', '/', '/r'],
    ['', '/', '/'],
  ])('root %j and %j are %j', (top, path, expected) => {
    expect(hostPath(top, path)).toBe(expected);
  });

  test.each(['data/x', '', './x', '/data/\0x'])('%j is no host path', (path) => {
    expect(() => hostPath('/r', path)).toThrow(TypeError);
  });
});

describe('reading', () => {
  test('gives the bytes, null when absent, and refuses one byte more than allowed', async () => {
    writeFileSync(at('data/f'), 'hello');
    expect(await files.read('/data/f', 5)).toEqual(bytes('hello'));
    expect(await files.read('/data/none', 5)).toBeNull();
    expect(await files.read('/data/f/below', 5)).toBeNull();
    await expect(files.read('/data/f', 4)).rejects.toMatchObject({ code: 'IO' });
  });

  test('reads files whose size is said to be 0, as in /proc', async () => {
    expect(Buffer.from((await hostFiles('').read('/proc/self/cmdline', 65536)) ?? []).toString()).toContain('node');
    await expect(hostFiles('').read('/dev/zero', 10)).rejects.toMatchObject({ code: 'IO' });
  });

  test('T32 a symlink, a directory and a fifo in the last place are refused, and the fifo does not hang', async () => {
    writeFileSync(at('secret'), 's');
    symlinkSync(at('secret'), at('data/link'));
    await execa('mkfifo', [at('data/fifo')]);
    await expect(files.read('/data/link', 9)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(files.read('/data/fifo', 9)).rejects.toMatchObject({ code: 'IO' });
    await expect(files.read('/data', 9)).rejects.toMatchObject({ code: 'IO' });
    await expect(files.hash('/data/link')).rejects.toMatchObject({ code: 'ELOOP' });
  });

  test('info does not follow symlinks', async () => {
    symlinkSync('nowhere', at('data/link'));
    writeFileSync(at('data/f'), 'abc');
    chmodSync(at('data/f'), 0o640);
    expect(await files.info('/data/link')).toMatchObject({ kind: 'symlink' });
    expect(await files.info('/data/f')).toEqual({ kind: 'file', sizeBytes: 3, mode: 0o640 });
    expect(await files.info('/data')).toMatchObject({ kind: 'directory' });
    expect(await files.info('/data/none')).toBeNull();
    expect(await files.readLink('/data/link')).toBe('nowhere');
    expect(await files.readLink('/data/none')).toBeNull();
  });

  test('list is sorted, and empty when absent', async () => {
    for (const name of ['b', 'a', 'C']) writeFileSync(at(`data/${name}`), '');
    expect(await files.list('/data')).toEqual(['C', 'a', 'b']);
    expect(await files.list('/none')).toEqual([]);
  });

  test('hash goes over all bytes and can be cancelled', async () => {
    const big = Buffer.alloc((1 << 20) * 2 + 17, 'x');
    writeFileSync(at('data/big'), big);
    const sha256 = createHash('sha256').update(big).digest('hex');
    expect(await files.hash('/data/big')).toEqual({ sha256, sizeBytes: big.length });
    await expect(files.hash('/data/big', AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('free space is known for a path that is not there yet', async () => {
    expect(await files.freeBytes('/data/new/deep')).toBeGreaterThan(0);
  });
});

describe('writing', () => {
  test('writeAtomic replaces the content, sets the mode whatever the umask, and leaves nothing beside', async () => {
    const before = process.umask(0o077);
    try {
      await files.writeAtomic('/data/f', bytes('one'));
      await files.writeAtomic('/data/f', bytes('two'), 0o755);
    } finally {
      process.umask(before);
    }
    expect(text('data/f')).toBe('two');
    expect(statSync(at('data/f')).mode & 0o777).toBe(0o755);
    expect(readdirSync(at('data'))).toEqual(['f']);
  });

  test('defect 13: the bytes are on the disk before they have their name, and the name before the call returns', async () => {
    const handle = await open(root);
    const prototype: { sync(): Promise<void> } = Object.getPrototypeOf(handle);
    await handle.close();
    const synced: string[] = [];
    const spy = vi.spyOn(prototype, 'sync').mockImplementation(async function (this: typeof handle) {
      synced.push(`${(await this.stat()).isDirectory() ? 'folder' : 'file'}: ${readdirSync(at('data')).join(' ')}`);
    });
    onTestFinished(() => spy.mockRestore());
    await files.writeAtomic('/data/f', bytes('new'));
    expect(synced).toEqual([expect.stringMatching(/^file: \.f\.[0-9a-f]+\.qx-new$/), 'folder: f']);

    synced.length = 0;
    await files.rename('/data/f', '/data/g');
    expect(synced).toEqual(['folder: g']);
    synced.length = 0;
    await files.linkAtomic('g', '/data/l');
    expect(synced).toEqual(['folder: g l']);
  });

  test('concurrent writers never mix their bytes', async () => {
    const texts = Array.from({ length: 20 }, (_, i) => String(i).repeat(50_000));
    await Promise.all(texts.map((t) => files.writeAtomic('/data/f', bytes(t))));
    expect(texts).toContain(text('data/f'));
    expect(readdirSync(at('data'))).toEqual(['f']);
  });

  test('a failed write leaves the old content and nothing beside', async () => {
    mkdirSync(at('data/f/full'), { recursive: true });
    await expect(files.writeAtomic('/data/f', bytes('x'))).rejects.toThrow();
    expect(readdirSync(at('data'))).toEqual(['f']);
  });

  test('T32 a planted symlink is replaced, not written through', async () => {
    writeFileSync(at('secret'), 'untouched');
    symlinkSync(at('secret'), at('data/f'));
    await files.writeAtomic('/data/f', bytes('mine'));
    expect(text('secret')).toBe('untouched');
    expect(lstatSync(at('data/f')).isFile()).toBe(true);
  });

  test('T32 makeDirectory and openPart refuse planted symlinks', async () => {
    mkdirSync(at('etc'));
    writeFileSync(at('etc/shadow'), 'root');
    symlinkSync(at('etc'), at('data/staging'));
    symlinkSync(at('etc/shadow'), at('data/x.part'));
    symlinkSync(at('etc/new'), at('data/y.part'));
    await expect(files.makeDirectory('/data/staging')).rejects.toMatchObject({ code: 'IO' });
    await expect(files.openPart('/data/x.part', 0)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(files.openPart('/data/y.part', 0)).rejects.toMatchObject({ code: 'ELOOP' });
    expect(readdirSync(at('etc'))).toEqual(['shadow']);
    expect(text('etc/shadow')).toBe('root');
  });

  test('T32 openPart refuses a file with a second name', async () => {
    writeFileSync(at('secret'), 'untouched');
    linkSync(at('secret'), at('data/x.part'));
    await expect(files.openPart('/data/x.part', 0)).rejects.toMatchObject({ code: 'IO' });
    expect(text('secret')).toBe('untouched');
  });

  test('makeDirectory makes parents, gives its mode to the last one, and leaves an existing one as it is', async () => {
    await files.makeDirectory('/data/a/b/c', 0o700);
    expect(statSync(at('data/a')).mode & 0o777).toBe(0o755);
    expect(statSync(at('data/a/b/c')).mode & 0o777).toBe(0o700);
    await files.makeDirectory('/data/a', 0o700);
    expect(statSync(at('data/a')).mode & 0o777).toBe(0o755);
    await Promise.all(Array.from({ length: 8 }, () => files.makeDirectory('/data/p/q/r')));
    expect(existsSync(at('data/p/q/r'))).toBe(true);
  });

  test('openPart resumes where it is told, creates for root alone, and refuses to invent bytes', async () => {
    const first = await files.openPart('/data/x.part', 0);
    await first.append(bytes('abcdef'));
    await first.sync();
    await first.close();
    expect(statSync(at('data/x.part')).mode & 0o777).toBe(0o600);
    const second = await files.openPart('/data/x.part', 3);
    await second.append(bytes('X'));
    await second.append(bytes('Y'));
    await second.close();
    expect(text('data/x.part')).toBe('abcXY');
    await expect(files.openPart('/data/x.part', 99)).rejects.toMatchObject({ code: 'IO' });
    expect(text('data/x.part')).toBe('abcXY');
  });

  test('duplicate keeps the bytes and the mode, and needs a free name', async () => {
    writeFileSync(at('data/f'), 'v1');
    chmodSync(at('data/f'), 0o750);
    await files.duplicate('/data/f', '/data/g');
    await files.writeAtomic('/data/f', bytes('v2'));
    expect(text('data/g')).toBe('v1');
    expect(statSync(at('data/g')).mode & 0o777).toBe(0o750);
    await expect(files.duplicate('/data/f', '/data/g')).rejects.toMatchObject({ code: 'EEXIST' });
    symlinkSync('f', at('data/link'));
    await expect(files.duplicate('/data/link', '/data/h')).rejects.toMatchObject({ code: 'IO' });
  });

  test('duplicate copies where another file system makes links impossible', async () => {
    const memory = mkdtempSync('/dev/shm/quantix-test-');
    onTestFinished(() => rmSync(memory, { recursive: true }));
    expect(statSync(memory).dev).not.toBe(statSync(root).dev);
    writeFileSync(at('data/f'), 'v1');
    chmodSync(at('data/f'), 0o750);
    const host = hostFiles('');
    await host.duplicate(at('data/f'), join(memory, 'f'));
    expect(readFileSync(join(memory, 'f'), 'utf8')).toBe('v1');
    expect(statSync(join(memory, 'f')).mode & 0o777).toBe(0o750);
    await expect(host.duplicate(at('data/f'), join(memory, 'f'))).rejects.toThrow();
    expect(readdirSync(memory)).toEqual(['f']);
  });

  test('rename between two names of one file takes the old name away', async () => {
    writeFileSync(at('data/f'), 'same');
    linkSync(at('data/f'), at('data/g'));
    await files.rename('/data/g', '/data/f');
    expect(readdirSync(at('data'))).toEqual(['f']);
  });

  test('linkAtomic replaces a symlink or a file, never a directory', async () => {
    writeFileSync(at('data/l'), 'file');
    await files.linkAtomic('one', '/data/l');
    await files.linkAtomic('two', '/data/l');
    expect(readlinkSync(at('data/l'))).toBe('two');
    mkdirSync(at('data/dir'));
    await expect(files.linkAtomic('one', '/data/dir')).rejects.toThrow();
    expect(readdirSync(at('data'))).toEqual(['dir', 'l']);
  });

  test('remove takes a tree without following its symlinks, and never the root', async () => {
    mkdirSync(at('data/tree/deep'), { recursive: true });
    mkdirSync(at('keep'));
    writeFileSync(at('keep/f'), '');
    symlinkSync(at('keep'), at('data/tree/deep/link'));
    symlinkSync(at('keep'), at('data/link'));
    await files.remove('/data/tree');
    await files.remove('/data/link/');
    await files.remove('/data/none');
    expect(readdirSync(at('data'))).toEqual([]);
    expect(readdirSync(at('keep'))).toEqual(['f']);
    await expect(files.remove('/data/..')).rejects.toMatchObject({ code: 'IO' });
  });

  test('setMode does not follow a symlink', async () => {
    writeFileSync(at('data/f'), '');
    symlinkSync('f', at('data/l'));
    await expect(files.setMode('/data/l', 0o777)).rejects.toMatchObject({ code: 'ELOOP' });
    await files.setMode('/data/f', 0o700);
    expect(statSync(at('data/f')).mode & 0o777).toBe(0o700);
  });
});
