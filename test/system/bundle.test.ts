import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { DOCUMENT_LIMITS } from '../../src/format/json.ts';
import type { OpenBundle } from '../../src/ports/bundle.ts';
import { entryHeader } from '../../src/system/bundle/layout.ts';
import { operatorBundles } from '../../src/system/bundle.ts';
import { entry, stick } from '../support/bundles.ts';
import { refusal } from '../support/documents.ts';
import { requires } from '../support/requires.ts';
import { END, type Lie, member, pax, record } from '../support/tar-maker.ts';

const bundles = operatorBundles();

/** Opens what lies there, and does not keep it open. */
const opened = async (path: string): Promise<OpenBundle['entries']> => {
  const bundle = await bundles.open(path);
  await bundle.close();
  return bundle.entries.map(({ name, sizeBytes }) => ({ name, sizeBytes }));
};

const contentOf = async (bundle: OpenBundle, name: string, start = 0): Promise<string> => {
  const pieces: Uint8Array[] = [];
  for await (const piece of bundle.read(name, start)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
};

const envelope = entry('manifest.signed.json', '{"manifest":{}}');
const first = entry('qx-node.tar.zst', 'n'.repeat(700));
const second = entry('system.squashfs', 's'.repeat(1024));
const whole = Buffer.concat([envelope, first, second, END]);

const bundleOf = (...parts: readonly (Lie | Buffer)[]): Buffer =>
  Buffer.concat([...parts.map((part) => (Buffer.isBuffer(part) ? part : member(part))), END]);

describe('a bundle', () => {
  test('is a tar that any tar lists and unpacks', async () => {
    const usb = stick();
    const path = await usb.put(whole);
    const { stdout } = await execa('tar', ['--utc', '-tvf', path]);
    expect(stdout.split('\n')).toEqual([
      '-rw-r--r-- 0/0              15 1970-01-01 00:00 manifest.signed.json',
      '-rw-r--r-- 0/0             700 1970-01-01 00:00 qx-node.tar.zst',
      '-rw-r--r-- 0/0            1024 1970-01-01 00:00 system.squashfs',
    ]);
    await mkdir(usb.at('unpacked'));
    await execa('tar', ['-xf', path, '-C', usb.at('unpacked')]);
    expect(await opened(usb.at('unpacked'))).toEqual(expect.arrayContaining([...(await opened(path))]));
  });

  test('has the headers that it always had: another byte, and no host takes the bundles of yesterday', () => {
    const shapes: readonly (readonly [string, number])[] = [
      ['manifest.signed.json', 4711],
      ['n'.repeat(100), 1],
      ['n'.repeat(101), 1],
      ['n'.repeat(128), 2 ** 43],
      ['system.squashfs', 8 ** 11 - 1],
      ['system.squashfs', 8 ** 11],
    ];
    const hash = createHash('sha256');
    for (const [name, sizeBytes] of shapes) hash.update(entryHeader(name, sizeBytes));
    expect(hash.digest('hex')).toBe('0990f725d6ec9ad7316c3d9593c8b0b13eba7b550e19da92b4aea22ebfd1ff3b');
  });

  test('is read entry by entry, from any byte on', async () => {
    const bundle = await bundles.open(await stick().put(whole));
    expect(bundle.kind).toBe('file');
    expect(bundle.entries.map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([
      ['manifest.signed.json', 15],
      ['qx-node.tar.zst', 700],
      ['system.squashfs', 1024],
    ]);
    expect(await contentOf(bundle, 'manifest.signed.json')).toBe('{"manifest":{}}');
    expect(await contentOf(bundle, 'qx-node.tar.zst', 690)).toBe('n'.repeat(10));
    expect(await contentOf(bundle, 'system.squashfs', 1024)).toBe('');
    await bundle.close();
  });

  test.each([99, 100, 101, 128])('may hold a name of %i characters', async (length) => {
    const name = 'a'.repeat(length);
    const usb = stick();
    const path = await usb.put(bundleOf(envelope, entry(name, 'content'), entry('z', 'after')));
    const bundle = await bundles.open(path);
    expect(await contentOf(bundle, name)).toBe('content');
    expect(await contentOf(bundle, 'z')).toBe('after');
    await bundle.close();
    const listed = (await execa('tar', ['-tf', path])).stdout.split('\n');
    expect(listed.map((line) => line.replace(/^\.\//, ''))).toEqual(['manifest.signed.json', name, 'z']);
  });

  test('may hold an image of more than 8 GiB', async () => {
    const path = await stick().put(Buffer.concat([envelope, entryHeader('huge', 9 * 2 ** 30)]));
    await truncate(path, (await stat(path)).size + 9 * 2 ** 30 + END.length);
    expect((await opened(path)).at(-1)).toEqual({ name: 'huge', sizeBytes: 9 * 2 ** 30 });
    expect((await execa('tar', ['-tvf', path])).stdout).toContain(String(9 * 2 ** 30));
  });
});

test('an image of any size is copied in and out of a bundle with the same memory', async () => {
  const usb = stick();
  const peakKib = async (sizeMib: number): Promise<number> => {
    await writeFile(usb.at('image'), '');
    await truncate(usb.at('image'), sizeMib << 20);
    const child = join(import.meta.dirname, '../support/bundle-child.ts');
    const { stdout } = await execa(process.execPath, [child, usb.at('image'), usb.at(`${sizeMib}.qxb`)]);
    return Number(stdout);
  };
  const small = await peakKib(64);
  expect((await peakKib(320)) - small).toBeLessThan(64 << 10);
}, 120_000);

requires({ commands: ['prlimit'] })('on a stick that takes no file of this size', () => {
  test('nothing is left behind, and it is said what to do', async () => {
    const usb = stick();
    await writeFile(usb.at('image'), Buffer.alloc(2 << 20));
    const child = join(import.meta.dirname, '../support/bundle-child.ts');
    const args = ['--fsize=1000000', process.execPath, child, usb.at('image'), usb.at('out.qxb')];
    const { exitCode, stderr } = await execa('prlimit', args, { reject: false });
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("code: 'NO_SPACE'");
    expect(stderr).toContain('exFAT');
    expect(await readdir(usb.at('.'))).toEqual(['image']);
  });
});

describe('is no bundle:', () => {
  const refused = async (bytes: Uint8Array): Promise<unknown> => refusal(async () => opened(await stick().put(bytes)));

  test('one that ends too early, wherever that is', async () => {
    const path = await stick().put(whole);
    for (let size = whole.length - 1; size >= 0; size -= size % 512 === 0 ? 1 : 511) {
      await truncate(path, size);
      expect(await refusal(() => opened(path)), `${size} bytes`).toBe('BUNDLE_INVALID');
    }
  });

  test('one with a flipped bit anywhere but in a content', async () => {
    const path = await stick().put(whole);
    const contents = [
      [512, 512 + 15],
      [1536, 1536 + 700],
      [3072, 3072 + 1024],
    ] as const;
    const file = await open(path, 'r+');
    for (let at = 0; at < whole.length; at++) {
      if (contents.some(([start, end]) => at >= start && at < end)) continue;
      await file.write(Buffer.of((whole[at] ?? 0) ^ (1 << (at % 8))), 0, 1, at);
      expect(await refusal(() => opened(path)), `byte ${at}`).toBe('BUNDLE_INVALID');
      await file.write(whole, at, 1, at);
    }
    await file.close();
    expect(await opened(path)).toHaveLength(3);
  });

  const named = (name: string): Buffer => entry(name, 'x', entryHeader(name, 1));
  test.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('a letter\n'.repeat(400))],
    ['only an end', END],
    ['without an envelope', bundleOf(first)],
    ['whose envelope is not first', bundleOf(first, envelope)],
    [
      'whose envelope is larger than any',
      bundleOf(entry('manifest.signed.json', Buffer.alloc(DOCUMENT_LIMITS.maxBytes + 1))),
    ],
    ['with an entry twice', bundleOf(envelope, first, first)],
    ['with two names that differ in case', bundleOf(envelope, first, entry('QX-node.tar.zst', 'x'))],
    ['with the envelope twice', bundleOf(envelope, envelope)],
    ['with an absolute name', bundleOf(envelope, named('/etc/passwd'))],
    ['with .. in a name', bundleOf(envelope, named('../victim'))],
    ['with a name that is ..', bundleOf(envelope, named('..'))],
    ['with a folder in a name', bundleOf(envelope, named('a/b'))],
    ['with ./ before a name', bundleOf(envelope, named('./a'))],
    ['with a hidden name', bundleOf(envelope, named('.a'))],
    ['with a line break in a name', bundleOf(envelope, named('a\nb'))],
    ['with a letter that is not ASCII', bundleOf(envelope, named('é'))],
    ['with a name of 129 characters', bundleOf(envelope, named('n'.repeat(129)))],
    ['with an empty name', bundleOf(envelope, { name: '', body: 'x' })],
    ['with a symlink', bundleOf(envelope, { name: 'link', type: '2', link: '/etc/shadow' })],
    ['with a hard link', bundleOf(envelope, { name: 'link', type: '1', link: 'manifest.signed.json' })],
    ['with a character device', bundleOf(envelope, { name: 'null', type: '3' })],
    ['with a block device', bundleOf(envelope, { name: 'sda', type: '4' })],
    ['with a fifo', bundleOf(envelope, { name: 'pipe', type: '6' })],
    ['with a folder', bundleOf(envelope, { name: 'folder/', type: '5' })],
    ['with a sparse file', bundleOf(envelope, { name: 'sparse', type: 'S', body: 'x' })],
    ['with a GNU long name', bundleOf(envelope, { name: 'L', type: 'L', body: 'other\0' }, first)],
    ['with a PAX name where none is needed', bundleOf(envelope, pax({ path: 'other' }), first)],
    ['with a PAX size', bundleOf(envelope, pax({ path: 'qx-node.tar.zst', size: '0' }), first)],
    ['with a global PAX header', bundleOf(envelope, pax({ path: 'other' }, 'g'), first)],
    ['with a PAX comment', bundleOf(envelope, pax({ comment: 'hello' }), first)],
    [
      'with a PAX header of two names',
      bundleOf(envelope, { type: 'x', body: Buffer.concat([record('path', 'a'), record('path', 'b')]) }, first),
    ],
    ['with a PAX header and nothing behind it', bundleOf(envelope, pax({ path: 'n'.repeat(120) }))],
    ['by another tar program', bundleOf({ name: 'manifest.signed.json', body: '{}' })],
    ['with an entry after the end', Buffer.concat([whole, first])],
    ['with an entry after half an end', Buffer.concat([whole.subarray(0, -512), first, END])],
    ['with another bundle behind it', Buffer.concat([whole, whole])],
    ['with zeros behind the end', Buffer.concat([whole, Buffer.alloc(512)])],
    ['with a byte behind the end', Buffer.concat([whole, Buffer.of(0)])],
    ['with a size beyond its end', Buffer.concat([envelope, entryHeader('a', 8 ** 10), END])],
    ['with the largest size', Buffer.concat([envelope, entryHeader('a', Number.MAX_SAFE_INTEGER), END])],
    ['with a size that takes in the next entry', Buffer.concat([envelope, entryHeader('a', 1), first, END])],
    ['with a negative size', bundleOf(envelope, { name: 'a', size: Buffer.alloc(12, 0xff) })],
  ])('one %s', async (_what, bytes) => {
    expect(await refused(bytes)).toBe('BUNDLE_INVALID');
  });

  test('one of a hundred thousand entries, and it is not read to its end', async () => {
    const many = Array.from({ length: 100_000 }, (_, i) => entryHeader(`e${i}`, 0));
    const path = await stick().put(Buffer.concat([envelope, ...many, END]));
    await expect(opened(path)).rejects.toMatchObject({
      code: 'BUNDLE_INVALID',
      message: expect.stringContaining('520'),
    });
  });
});

describe('what a path may lead to:', () => {
  test('nothing at all', async () => {
    const usb = stick();
    expect(await refusal(() => opened(usb.at('absent.qxb')))).toBe('NOT_FOUND');
    await symlink(usb.at('absent.qxb'), usb.at('link'));
    expect(await refusal(() => opened(usb.at('link')))).toBe('NOT_FOUND');
    await usb.put(whole);
    expect(await refusal(() => opened(usb.at('release.qxb/inside')))).toBe('NOT_FOUND');
    expect(await refusal(() => opened('release.qxb'))).toBe('BAD_REQUEST');
    expect(await refusal(() => opened('/tmp/\0'))).toBe('BAD_REQUEST');
  });

  test('a fifo, for whose writer nobody waits, and a device', async () => {
    const usb = stick();
    await execa('mkfifo', [usb.at('fifo')]);
    expect(await refusal(() => opened(usb.at('fifo')))).toBe('BUNDLE_INVALID');
    expect(await refusal(() => opened('/dev/zero'))).toBe('BUNDLE_INVALID');
  });

  test('a symlink to a bundle', async () => {
    const usb = stick();
    await symlink(await usb.put(whole), usb.at('latest.qxb'));
    expect(await opened(usb.at('latest.qxb'))).toHaveLength(3);
  });

  test('another file than when it was opened: it is not looked at', async () => {
    const usb = stick();
    const bundle = await bundles.open(await usb.put(whole));
    await usb.put(bundleOf(envelope, entry('qx-node.tar.zst', 'evil'.repeat(175))), 'other');
    await rename(usb.at('other'), usb.at('release.qxb'));
    expect(await contentOf(bundle, 'qx-node.tar.zst')).toBe('n'.repeat(700));
    await bundle.close();
  });

  test('a file that becomes shorter while it is read', async () => {
    const path = await stick().put(whole);
    const bundle = await bundles.open(path);
    await truncate(path, 1600);
    expect(await refusal(() => contentOf(bundle, 'qx-node.tar.zst'))).toBe('SIZE_MISMATCH');
    await bundle.close();
  });
});

describe('a folder', () => {
  const folder = async () => {
    const usb = stick();
    await mkdir(usb.at('release'));
    await usb.put(Buffer.from('{}'), 'release/manifest.signed.json');
    await usb.put(Buffer.from('node'), 'release/qx-node.tar.zst');
    return usb;
  };

  test('holds what lies in it as plain files with plain names, the envelope first', async () => {
    const usb = await folder();
    await mkdir(usb.at('release/deep'));
    await symlink('/etc/passwd', usb.at('release/link'));
    await execa('mkfifo', [usb.at('release/fifo')]);
    await writeFile(usb.at('release/.hidden'), 'x');
    await writeFile(usb.at('release/a note.txt'), 'x');
    await writeFile(usb.at('release/a.txt'), 'x');
    const bundle = await bundles.open(usb.at('release'));
    expect(bundle.kind).toBe('folder');
    expect(bundle.entries[0]?.name).toBe('manifest.signed.json');
    expect(bundle.entries.map(({ name }) => name).sort()).toEqual(['a.txt', 'manifest.signed.json', 'qx-node.tar.zst']);
    expect(await contentOf(bundle, 'qx-node.tar.zst', 1)).toBe('ode');
    await bundle.close();
  });

  test('that another one takes the place of is still the one that was opened', async () => {
    const usb = await folder();
    const bundle = await bundles.open(usb.at('release'));
    await rename(usb.at('release'), usb.at('away'));
    await mkdir(usb.at('release'));
    await usb.put(Buffer.from('evil'), 'release/qx-node.tar.zst');
    expect(await contentOf(bundle, 'qx-node.tar.zst')).toBe('node');
    await bundle.close();
  });

  test('in which a file becomes a symlink: it is not followed', async () => {
    const usb = await folder();
    const bundle = await bundles.open(usb.at('release'));
    await rename(usb.at('release/qx-node.tar.zst'), usb.at('release/away'));
    await symlink('away', usb.at('release/qx-node.tar.zst'));
    await expect(contentOf(bundle, 'qx-node.tar.zst')).rejects.toThrow('ELOOP');
    await bundle.close();
  });

  test('without an envelope, with one that is too large, and with more files than any release has', async () => {
    const usb = await folder();
    for (let i = 0; i < 520; i++) await usb.put(Buffer.of(0), `release/f${i}`);
    expect(await refusal(() => opened(usb.at('release')))).toBe('BUNDLE_INVALID');
    const large = await folder();
    await truncate(large.at('release/manifest.signed.json'), DOCUMENT_LIMITS.maxBytes + 1);
    expect(await refusal(() => opened(large.at('release')))).toBe('BUNDLE_INVALID');
    await mkdir(large.at('empty'));
    expect(await refusal(() => opened(large.at('empty')))).toBe('BUNDLE_INVALID');
  });
});
