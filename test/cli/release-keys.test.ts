import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readKeyring } from '../../src/format/keyring.ts';
import { keyringOf, signedManifest, testKey, trusted } from '../support/keys.ts';
import { document, release } from '../support/release-tools.ts';

const BUILD = join(import.meta.dirname, '../../scripts/build.ts');
const place = { dir: '' };
const at = (name: string): string => join(place.dir, name);

beforeEach(async () => {
  place.dir = await mkdtemp(join(tmpdir(), 'qx-keys-'));
});
afterEach(() => rm(place.dir, { recursive: true }));

const keygen = (id: string, ...more: string[]) => release(['keygen', '--key-id', id, '--out', place.dir, ...more]);
const modeOf = async (name: string): Promise<number> => (await stat(at(name))).mode & 0o777;
const keyringIn = async (name: string) => readKeyring(await readFile(at(name)));

/** Every file and its bytes: what a refusal must leave as it was. */
async function everything(): Promise<string> {
  const names = (await readdir(place.dir, { recursive: true })).sort();
  return JSON.stringify(await Promise.all(names.map(async (name) => [name, await readFile(at(name), 'utf8')])));
}

describe('keygen', () => {
  test.each([0o000, 0o022, 0o077])('keeps the private key to its owner under umask %o', async (mask) => {
    const before = process.umask(mask);
    try {
      expect(await keygen('dev-1')).toMatchObject({ exitCode: 0, stderr: '' });
    } finally {
      process.umask(before);
    }
    expect(await modeOf('dev-1.private.json')).toBe(0o600);
    expect(await modeOf('dev-1.public.json')).toBe(0o644);
  });

  test('prints paths and never the key', async () => {
    const ran = await keygen('dev-1', '--json');
    expect(document(ran)).toEqual({
      schema: 'qx-release.keygen/1',
      key_id: 'dev-1',
      private_key: at('dev-1.private.json'),
      public_key: at('dev-1.public.json'),
    });
    const { private_key } = JSON.parse(await readFile(at('dev-1.private.json'), 'utf8'));
    expect(private_key).toMatch(/^[A-Za-z0-9+/]{43}=$/);
    expect(ran.stdout + ran.stderr + (await readFile(at('dev-1.public.json'), 'utf8'))).not.toContain(private_key);
  });

  test.each(['dev-1.private.json', 'dev-1.public.json'])('overwrites no %s', async (name) => {
    await writeFile(at(name), 'mine');
    const before = await everything();
    const ran = await keygen('dev-1', '--keyring', at('keyring.json'));
    expect(ran).toMatchObject({ exitCode: 2, stdout: '' });
    expect(ran.stderr).toContain('[REFUSED_OVERWRITE]');
    expect(await everything()).toBe(before);
  });

  test('does not write through a link that waits under the name', async () => {
    await writeFile(at('target'), 'mine');
    await symlink(at('target'), at('dev-1.private.json'));
    expect(await keygen('dev-1')).toMatchObject({ exitCode: 2 });
    expect(await readFile(at('target'), 'utf8')).toBe('mine');
  });

  test('makes a keyring and extends it', async () => {
    await keygen('dev-1', '--keyring', at('keyring.json'), '--kind', 'development');
    await keygen('stable-1', '--keyring', at('keyring.json'), '--channels', 'stable', '--products', 'quantix-vdc');
    const { kind, keys } = await keyringIn('keyring.json');
    expect(kind).toBe('development');
    expect(keys).toMatchObject([
      { key_id: 'dev-1', channels: ['dev'], products: ['quantix-os', 'quantix-vdc'] },
      { key_id: 'stable-1', channels: ['stable'], products: ['quantix-vdc'] },
    ]);
    expect(keys[1]).toEqual(JSON.parse(await readFile(at('stable-1.public.json'), 'utf8')));
  });

  test('a keyring is for releases unless told otherwise, and stays what it is', async () => {
    await keygen('one', '--keyring', at('keyring.json'));
    expect((await keyringIn('keyring.json')).kind).toBe('release');
    const before = await everything();
    expect(await keygen('two', '--keyring', at('keyring.json'), '--kind', 'development')).toMatchObject({
      exitCode: 2,
    });
    expect(await everything()).toBe(before);
  });

  test('one name is one key', async () => {
    await keygen('one', '--keyring', at('keyring.json'));
    await mkdir(at('elsewhere'));
    const ran = await release(['keygen', '--key-id', 'one', '--out', at('elsewhere'), '--keyring', at('keyring.json')]);
    expect(ran.exitCode).toBe(7);
    expect(ran.stderr).toContain('key_id one appears twice');
    expect(await readdir(at('elsewhere'))).toEqual([]);
  });

  test.each(['', '../x', 'A', '__proto__', 'a/b', '-rf'])('%j is no key id', async (id) => {
    expect(await release(['keygen', `--key-id=${id}`, '--out', place.dir])).toMatchObject({ exitCode: 2 });
    expect(await readdir(place.dir)).toEqual([]);
  });
});

describe('trust', () => {
  test('takes the public file of another machine', async () => {
    await keygen('dev-1');
    const ran = await release(['trust', at('dev-1.public.json'), '--keyring', at('keyring.json'), '--json']);
    expect(document(ran)).toEqual({
      schema: 'qx-release.trust/1',
      key_id: 'dev-1',
      keyring: at('keyring.json'),
    });
    expect((await keyringIn('keyring.json')).keys.map((key) => key.key_id)).toEqual(['dev-1']);
  });

  test('takes the key of a vault', async () => {
    await keygen('source');
    const { public_key } = JSON.parse(await readFile(at('source.public.json'), 'utf8'));
    const args = ['--key-id', 'vault-1', '--public-key', public_key, '--channels', 'beta', 'stable'];
    expect(await release(['trust', '--keyring', at('keyring.json'), ...args])).toMatchObject({ exitCode: 0 });
    expect((await keyringIn('keyring.json')).keys).toMatchObject([
      { key_id: 'vault-1', public_key, channels: ['beta', 'stable'] },
    ]);
  });

  // Points of small order, and encodings that are not canonical: under such a key a forged signature can hold.
  test.each([
    '0100000000000000000000000000000000000000000000000000000000000000',
    '0000000000000000000000000000000000000000000000000000000000000000',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  ])('T06: refuses the unsafe key %s', async (hex) => {
    const key = Uint8Array.fromHex(hex).toBase64();
    const ran = await release([
      'trust',
      '--key-id',
      'x',
      '--public-key',
      key,
      '--keyring',
      at('keyring.json'),
      '--json',
    ]);
    expect(ran.exitCode).toBe(7);
    expect(document(ran)).toMatchObject({ schema: 'qx-release.error/1', code: 'KEY_UNSAFE', exit_code: 7 });
    expect(await readdir(place.dir)).toEqual([]);
    const { envelope } = await signedManifest();
    await writeFile(at('manifest.signed.json'), envelope);
    const unsafe = trusted(await testKey('test-key'), { public_key: key });
    await writeFile(at('keyring.json'), JSON.stringify(keyringOf([unsafe])));
    await writeFile(at('package.json'), '{"version":"1.0.0"}');
    const verified = await release(['verify', at('manifest.signed.json'), '--keyring', at('keyring.json'), '--json']);
    expect(document(verified)).toMatchObject({ code: 'KEY_UNSAFE', exit_code: 7 });
    // Nor does a build bake it: no executable is made that would trust it.
    const built = await execa(process.execPath, [BUILD, '--keyring', at('keyring.json')], {
      cwd: place.dir,
      reject: false,
    });
    expect([built.exitCode, built.stderr]).toEqual([7, expect.stringContaining('[KEY_UNSAFE]')]);
    expect((await readdir(place.dir)).sort()).toEqual(['keyring.json', 'manifest.signed.json', 'package.json']);
  });
});

describe('help', () => {
  const verbs = ['keygen', 'trust', 'pack', 'manifest', 'sign', 'verify', 'refresh', 'promote', 'publish', 'withdraw'];

  test('the overview names every verb', async () => {
    const { exitCode, stdout } = await release(['--help']);
    expect(exitCode).toBe(0);
    for (const verb of verbs) expect(stdout).toContain(`  ${verb} `);
  });

  test.each(verbs)('%s explains itself by examples', async (verb) => {
    const { exitCode, stdout, stderr } = await release([verb, '--help']);
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(stdout).toContain('Examples:');
    expect(stdout).toMatch(new RegExp(`qx-release ${verb} `));
    expect(stdout.replace(/\s+/g, ' ')).toContain(`schema qx-release.${verb}/1`);
  });

  test.each([[[]], [['frobnicate']], [['verify']], [['publish', 'x', '--frobnicate']]])(
    '%j is a usage error',
    async (args) => {
      const ran = await release(args);
      expect(ran).toMatchObject({ exitCode: 2, stdout: '' });
      expect(ran.stderr).not.toBe('');
    },
  );
});
