import { chmod, copyFile, mkdir, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import type { ReleaseTools } from '../../src/cli/release/tools.ts';
import { document, type Ran, release } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

const NAME = 'quantix-os-1.2.0-dev.qxb';

const place = { dir: '' };
const at = (name: string): string => join(place.dir, name);
const run = (args: readonly string[], changes: Partial<ReleaseTools> = {}): Promise<Ran> =>
  release(args, { env: { QX_KEYRING: at('keyring.json'), SOURCE_DATE_EPOCH: '1793534400' }, ...changes });
const bundle = (...more: string[]): Promise<Ran> => run(['bundle', at('build'), '--out', at('usb'), '--json', ...more]);

async function made(...args: string[]): Promise<void> {
  expect(await run(args)).toMatchObject({ exitCode: 0 });
}

beforeEach(async () => {
  place.dir = await temporaryFolder();
  await mkdir(at('build'));
  await mkdir(at('usb'));
  await writeFile(at('qx-node'), 'a program of version 1.2.0', { mode: 0o755 });
  await writeFile(at('host-ui'), 'a page of version 1.2.0');
  await made('keygen', '--key-id', 'dev', '--channels', 'dev', '--out', at('.'), '--keyring', at('keyring.json'));
  for (const name of ['qx-node', 'host-ui']) await made('pack', at(name), '--out', at('build'));
  const components = ['qx-node', 'host-ui'].flatMap((name) => [
    '--component',
    `${name}=${at(`build/${name}.tar.zst`)}`,
  ]);
  const described = ['manifest', '--version', '1.2.0', '--channel', 'dev', ...components];
  await made(...described, '--expires-in', '3650d', '--out', at('build/manifest.json'));
  await made('sign', at('build/manifest.json'), '--key', at('dev.private.json'));
});

const refused = (ran: Ran, code: string) => expect(document(ran)).toMatchObject({ schema: 'qx-release.error/1', code });

describe('qx-release bundle', () => {
  test('makes one file of a release, and says which', async () => {
    const ran = await bundle();
    expect(ran.exitCode).toBe(0);
    const path = at(`usb/${NAME}`);
    const hash = (await execa('sha256sum', [path])).stdout.slice(0, 64);
    expect(document(ran)).toEqual({
      schema: 'qx-release.bundle/1',
      status: 'written',
      path,
      product: 'quantix-os',
      version: '1.2.0',
      channel: 'dev',
      sequence: expect.any(Number),
      expires_at: expect.any(String),
      key_ids: ['dev'],
      sha256: hash,
      size_bytes: (await stat(path)).size,
      artifacts: [
        { artifact: 'qx-node.tar.zst', sha256: expect.any(String), size_bytes: expect.any(Number) },
        { artifact: 'host-ui.tar.zst', sha256: expect.any(String), size_bytes: expect.any(Number) },
      ],
    });
    const { stdout } = await execa('tar', ['-tf', path]);
    expect(stdout.split('\n')).toEqual(['manifest.signed.json', 'qx-node.tar.zst', 'host-ui.tar.zst']);
    for (const name of stdout.split('\n')) {
      const { stdout: inside } = await execa('tar', ['-xOf', path, name], {
        encoding: 'buffer',
        stripFinalNewline: false,
      });
      expect(Buffer.from(inside).equals(await readFile(at(`build/${name}`)))).toBe(true);
    }
    expect(await readdir(at('usb'))).toEqual([NAME]);
    const last = ran.stderr.trimEnd().split('\n').at(-1) ?? '';
    expect(JSON.parse(last)).toMatchObject({ schema: 'qx-release.progress/1', label: 'bundle', percent: 100 });
  });

  test('makes the same bytes of the same release, whenever, by whomever, from files named in any order', async () => {
    await bundle();
    await utimes(at('build/qx-node.tar.zst'), 1, 1);
    await chmod(at('build/host-ui.tar.zst'), 0o600);
    const files = ['host-ui.tar.zst', 'manifest.signed.json', 'qx-node.tar.zst'].map((name) => at(`build/${name}`));
    expect(await run(['bundle', ...files, '--out', at('other.qxb')])).toMatchObject({ exitCode: 0 });
    expect((await readFile(at('other.qxb'))).equals(await readFile(at(`usb/${NAME}`)))).toBe(true);
  });

  test('leaves the same bundle as it is, and refuses to take the place of anything else', async () => {
    await bundle();
    const before = await stat(at(`usb/${NAME}`));
    expect(document(await bundle())).toMatchObject({ status: 'unchanged' });
    expect((await stat(at(`usb/${NAME}`))).mtimeMs).toBe(before.mtimeMs);
    const bytes = await readFile(at(`usb/${NAME}`));
    for (const other of [Buffer.from(bytes).fill(1, 600, 601), bytes.subarray(1), Buffer.alloc(0)]) {
      await writeFile(at(`usb/${NAME}`), other);
      const ran = await bundle();
      refused(ran, 'REFUSED_OVERWRITE');
      expect(ran.exitCode).toBe(2);
      expect((await readFile(at(`usb/${NAME}`))).equals(other)).toBe(true);
    }
    await rm(at(`usb/${NAME}`));
    await symlink('nowhere', at(`usb/${NAME}`));
    refused(await bundle(), 'REFUSED_OVERWRITE');
    expect(await readdir(at('usb'))).toEqual([NAME]);
  });

  test.each<[string, string, () => Promise<unknown>]>([
    ['other bytes of the same length', 'HASH_MISMATCH', async () => flip(at('build/qx-node.tar.zst'))],
    ['more bytes', 'SIZE_MISMATCH', () => writeFile(at('build/qx-node.tar.zst'), 'x', { flag: 'a' })],
    ['no file', 'ARTIFACT_MISSING', () => rm(at('build/host-ui.tar.zst'))],
    ['another manifest', 'SIGNATURE_INVALID', () => replaceIn('build/manifest.signed.json', '"1.2.0"', '"1.2.1"')],
    ['no signature', 'UNSIGNED', () => copyFile(at('build/manifest.json'), at('build/manifest.signed.json'))],
    ['no envelope', 'USAGE', () => rm(at('build/manifest.signed.json'))],
  ])('writes nothing when the release has %s', async (_what, code, spoil) => {
    await spoil();
    refused(await bundle(), code);
    expect(await readdir(at('usb'))).toEqual([]);
  });

  test('writes nothing when an artifact changes after it was checked', async () => {
    for (const change of [
      () => flip(at('build/host-ui.tar.zst')),
      () => writeFile(at('build/host-ui.tar.zst'), 'x', { flag: 'a' }),
    ]) {
      // The last that is looked at before anything is written is whether the target is a folder.
      const ran = await run(['bundle', at('build'), '--out', at('usb'), '--json'], {
        followed: async (path) => {
          if (path === at('usb')) await change();
          return path;
        },
      });
      expect(['HASH_MISMATCH', 'SIZE_MISMATCH']).toContain(document(ran).code);
      expect(await readdir(at('usb'))).toEqual([]);
    }
  });

  test('makes none of a release that has expired, as no host would install it', async () => {
    const later = {
      nowMs: () => Date.now() + 3651 * 86_400_000,
      monotonicMs: () => 0,
      isSynchronised: async () => true,
    };
    const ran = await run(['bundle', at('build'), '--out', at('usb'), '--json'], {
      clock: { ...later, sleep: async () => {} },
    });
    refused(ran, 'EXPIRED');
    expect(await readdir(at('usb'))).toEqual([]);
  });

  test('makes none of another release than was asked for', async () => {
    refused(await bundle('--channel', 'stable'), 'USAGE');
    refused(await bundle('--version', '1.2.1'), 'USAGE');
    refused(await bundle('--component', 'qx-node'), 'USAGE');
    expect(await readdir(at('usb'))).toEqual([]);
    expect(await bundle('--channel', 'dev', '--version', '1.2.0')).toMatchObject({ exitCode: 0 });
  });

  test('has examples in its help', async () => {
    expect((await run(['bundle', '--help'])).stdout).toContain('qx-release bundle build/release --out /mnt/usb');
  });
});

describe('qx-release verify of a bundle', () => {
  const verify = (...more: string[]) => run(['verify', at(`usb/${NAME}`), '--json', ...more]);

  test('says what is in it, as it does of a folder', async () => {
    await bundle();
    const ran = await verify();
    expect(ran.exitCode).toBe(0);
    const folder = document(await run(['verify', at('build/manifest.signed.json'), '--artifacts', '--json']));
    expect(document(ran)).toEqual(folder);
    expect(folder.artifacts).toHaveLength(2);
    expect(await verify('--artifacts')).toMatchObject({ exitCode: 0 });
    refused(await verify('--artifacts', at('build')), 'USAGE');
  });

  test('finds a flipped bit, wherever it is', async () => {
    await bundle();
    const path = at(`usb/${NAME}`);
    const bytes = await readFile(path);
    const codes = new Set<unknown>();
    for (let byte = 0; byte < bytes.length; byte += 61) {
      const flipped = Buffer.from(bytes);
      flipped[byte] = (bytes[byte] ?? 0) ^ 4;
      await writeFile(path, flipped);
      const ran = await verify();
      codes.add(document(ran).code);
      expect(ran.exitCode, `byte ${byte}`).toBe(7);
    }
    expect([...codes]).toEqual(expect.arrayContaining(['BUNDLE_INVALID', 'HASH_MISMATCH', 'SIGNATURE_INVALID']));
  });

  test('a file that is no bundle, and one that is not there', async () => {
    await writeFile(at(`usb/${NAME}`), 'hello');
    refused(await verify(), 'BUNDLE_INVALID');
    await rm(at(`usb/${NAME}`));
    refused(await verify(), 'NOT_FOUND');
  });
});

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path);
  await writeFile(
    path,
    bytes.map((byte, i) => (i === 20 ? byte ^ 1 : byte)),
  );
}

async function replaceIn(name: string, from: string, to: string): Promise<void> {
  const text = await readFile(at(name), 'utf8');
  expect(text).toContain(from);
  await writeFile(at(name), text.replace(from, to));
}
