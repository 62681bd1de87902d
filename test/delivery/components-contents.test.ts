import { chmod, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { forgetContents, hashContents, noteContents, notedContents } from '../../src/delivery/components/contents.ts';
import type { Files } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { temporaryFolder } from '../support/temp.ts';

let root: string;
let files: Files;
beforeEach(async () => {
  root = await temporaryFolder();
  files = hostFiles(root);
});

const DIGEST = 'a'.repeat(64);
const of = (version: string) => ({ version, sha256: DIGEST, path: '/data/bin/x y' });
const noted = (version: string) => notedContents(files, '/versions', 'x', version);
const FILE = 'versions/.x.contents';

describe('notes', () => {
  test('one a version, for root alone, and gone with the last of them', async () => {
    await noteContents(files, '/versions', 'x', of('1.0.0'));
    await noteContents(files, '/versions', 'x', of('1.1.0'));
    await noteContents(files, '/versions', 'x', { ...of('1.1.0'), path: '/elsewhere' });
    expect(await noted('1.0.0')).toEqual(of('1.0.0'));
    expect(await noted('1.1.0')).toEqual({ ...of('1.1.0'), path: '/elsewhere' });
    expect((await stat(join(root, FILE))).mode & 0o777).toBe(0o600);
    for (const version of ['1.1.0', '2.0.0', '1.0.0']) await forgetContents(files, '/versions', 'x', version);
    expect(await files.list('/versions')).toEqual([]);
  });

  test('of many versions the newest are kept', async () => {
    for (let minor = 0; minor < 20; minor++) await noteContents(files, '/versions', 'x', of(`1.${minor}.0`));
    expect(await noted('1.11.0')).toBeNull();
    expect(await noted('1.12.0')).not.toBeNull();
    expect((await readFile(join(root, FILE), 'utf8')).split('\n')).toHaveLength(9);
  });

  test.each([
    ['torn', `1.0.0 ${DIGEST.slice(1)}`],
    ['another word', `1.0.0 ${DIGEST} not/a/path`],
    ['no text', '\0\xff'],
    ['far too long', `1.0.0 ${DIGEST} /data\n`.repeat(2000)],
    ['empty', ''],
  ])('what cannot be read says nothing: %s', async (_what, text) => {
    await mkdir(join(root, 'versions'));
    await writeFile(join(root, FILE), text, 'latin1');
    expect(await noted('1.0.0')).toBeNull();
    await noteContents(files, '/versions', 'x', of('1.0.0'));
    expect(await noted('1.0.0')).toEqual(of('1.0.0'));
  });
});

describe('the hash of what is there', () => {
  const at = (path: string): string => join(root, 'tree', path);
  const hash = () => hashContents(files, '/tree');
  beforeEach(async () => {
    await mkdir(at('a/b'), { recursive: true });
    await writeFile(at('a/one'), 'one');
    await writeFile(at('a/b/two'), 'two');
    await symlink('one', at('a/link'));
  });

  test.each<[what: string, change: () => Promise<unknown>]>([
    ['a byte', () => writeFile(at('a/one'), 'onE')],
    ['a mode', () => chmod(at('a/one'), 0o755)],
    ['the mode of a folder', () => chmod(at('a/b'), 0o700)],
    ['a name', () => rename(at('a/one'), at('a/other'))],
    ['a file that moved', () => rename(at('a/b/two'), at('a/two'))],
    ['a file more', () => writeFile(at('a/b/three'), '')],
    ['an empty folder more', () => mkdir(at('a/c'))],
    ['a file less', () => rm(at('a/b/two'))],
    ['another target', () => rm(at('a/link')).then(() => symlink('b/two', at('a/link')))],
    ['a link in the place of a file', () => rm(at('a/one')).then(() => symlink('b/two', at('a/one')))],
  ])('%s changes it', async (_what, change) => {
    const before = await hash();
    expect(await hash()).toBe(before);
    await change();
    expect(await hash()).not.toBe(before);
  });

  test('is the same through the symlink that leads to the tree, and for the same tree elsewhere', async () => {
    const before = await hash();
    await mkdir(join(root, 'data/.ui.trees'), { recursive: true });
    await rename(join(root, 'tree'), join(root, 'data/.ui.trees/1'));
    await symlink('.ui.trees/1', join(root, 'data/ui'));
    expect(await hashContents(files, '/data/ui')).toBe(before);
    expect(await hashContents(files, '/data/.ui.trees/1')).toBe(before);
    // A symlink to nothing is not what was installed either.
    await rename(join(root, 'data/.ui.trees/1'), join(root, 'data/.ui.trees/2'));
    expect(await hashContents(files, '/data/ui')).toBeNull();
  });

  test('is another where a symlink leads to the same bytes in a place of somebody else', async () => {
    const [tree, file] = [await hash(), await hashContents(files, '/tree/a/one')];
    await symlink('tree', join(root, 'elsewhere'));
    await symlink('tree/a/one', join(root, 'one'));
    expect(await hashContents(files, '/elsewhere')).not.toBe(tree);
    expect(await hashContents(files, '/one')).not.toBe(file);
  });
});
