import { chmod, copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { splitCommand } from '../../src/cli/release/signer.ts';
import type { ReleaseTools } from '../../src/cli/release/tools.ts';
import { writeSigningKey } from '../../src/format/signing-key.ts';
import { keyringOf, manifestOf, type TestKey, testKey, trusted } from '../support/keys.ts';
import { document, type Ran, release } from '../support/release-tools.ts';
import { requires } from '../support/requires.ts';

const place = { dir: '' };
const at = (name: string): string => join(place.dir, name);
const writeJson = (name: string, value: object) => writeFile(at(name), JSON.stringify(value, null, 2));
const readJson = async (name: string) => JSON.parse(await readFile(at(name), 'utf8'));

async function writeKey(label: string): Promise<TestKey> {
  const key = await testKey(label);
  await writeFile(at(`${label}.private.json`), writeSigningKey(label, key.seed), { mode: 0o600 });
  return key;
}

const content = 'new bytes of qx-node';

beforeEach(async () => {
  place.dir = await mkdtemp(join(tmpdir(), 'qx-sign-'));
  await writeJson('manifest.json', manifestOf({ sequence: 7, expires_at: '2099-01-01T00:00:00Z' }));
  await writeFile(at('qx-node.tar.zst'), content);
  const keys = [await writeKey('alice'), await writeKey('bob')];
  await writeJson('keyring.json', keyringOf(keys.map((key) => trusted(key))));
});
afterEach(() => rm(place.dir, { recursive: true }));

const sign = (...more: string[]) => release(['sign', at('manifest.json'), ...more]);
const signByAlice = () => sign('--key', at('alice.private.json'));
const verify = (...more: string[]) =>
  release(['verify', at('manifest.signed.json'), '--keyring', at('keyring.json'), ...more]);

const refusedWith = (ran: Ran, code: string) => {
  expect(document(ran)).toMatchObject({ schema: 'qx-release.error/1', code, exit_code: 7 });
  expect(ran.exitCode).toBe(7);
};

describe('sign', () => {
  test('the same manifest, key and date give the same bytes, in any time zone', async () => {
    const envelopes: string[] = [];
    for (const zone of ['UTC', 'Asia/Kathmandu']) {
      vi.stubEnv('TZ', zone);
      await release(['sign', at('manifest.json'), '--key', at('alice.private.json')], {
        env: { SOURCE_DATE_EPOCH: '1793534400' },
      });
      envelopes.push(await readFile(at('manifest.signed.json'), 'utf8'));
    }
    vi.unstubAllEnvs();
    expect(envelopes[0]).toBe(envelopes[1]);
    expect(JSON.parse(String(envelopes[0]))).toMatchObject({ signed_at: '2026-11-01T12:00:00Z', key_id: 'alice' });
  });

  test('names the file and the keys', async () => {
    const ran = await sign('--key', at('alice.private.json'), '--key', at('bob.private.json'), '--json');
    expect(document(ran)).toEqual({
      schema: 'qx-release.sign/1',
      path: at('manifest.signed.json'),
      key_ids: ['alice', 'bob'],
    });
  });

  test('two people who never meet sign one envelope', async () => {
    await writeJson('keyring.json', {
      ...keyringOf([trusted(await testKey('alice')), trusted(await testKey('bob'))]),
      thresholds: { 'quantix-os/dev': 2 },
    });
    const first = await sign('--key', at('alice.private.json'), '--keyring', at('keyring.json'));
    expect(first).toMatchObject({ exitCode: 0 });
    expect(first.stderr).toContain('needs 2 signatures');
    refusedWith(await verify('--json'), 'THRESHOLD_NOT_MET');
    const second = [
      'sign',
      at('manifest.signed.json'),
      '--key',
      at('bob.private.json'),
      '--keyring',
      at('keyring.json'),
    ];
    expect(await release(second)).toMatchObject({ exitCode: 0, stderr: '' });
    expect(document(await verify('--json'))).toMatchObject({ key_ids: ['alice', 'bob'] });
  });

  test('signs no sequence that no normal release can follow, nor publishes it, unless that is meant', async () => {
    await writeJson('manifest.json', manifestOf({ sequence: 99_999_999_999 }));
    refusedWith(await sign('--key', at('alice.private.json'), '--json'), 'SEQUENCE_AHEAD');
    expect(await readdir(place.dir)).not.toContain('manifest.signed.json');
    expect((await sign('--key', at('alice.private.json'), '--allow-sequence-ahead')).exitCode).toBe(0);
    const publish = ['publish', at('manifest.signed.json'), '--keyring', at('keyring.json'), '--dry-run', '--json'];
    refusedWith(await release(publish), 'SEQUENCE_AHEAD');
    expect(document(await release([...publish, '--allow-sequence-ahead'])).code).not.toBe('SEQUENCE_AHEAD');
  });

  test('signs nothing that is dated ahead, and writes nothing', async () => {
    await writeJson('manifest.json', manifestOf({ release_date: '2099-01-01T00:00:00Z', sequence: 4_070_908_800 }));
    const ran = await sign('--key', at('alice.private.json'), '--json');
    refusedWith(ran, 'DATED_AHEAD');
    expect(document(ran)).toMatchObject({ next: expect.stringContaining('set the clock') });
    expect(await readdir(place.dir)).not.toContain('manifest.signed.json');
  });

  test('one key does not sign twice', async () => {
    await signByAlice();
    const again = await release(['sign', at('manifest.signed.json'), '--key', at('alice.private.json')]);
    expect(again).toMatchObject({ exitCode: 2 });
    expect(again.stderr).toContain('alice would sign twice');
  });

  test('what no host of the keyring would take is not written', async () => {
    await writeKey('stranger');
    const ran = await sign('--key', at('stranger.private.json'), '--keyring', at('keyring.json'), '--json');
    refusedWith(ran, 'KEY_UNKNOWN');
    expect(await readdir(place.dir)).not.toContain('manifest.signed.json');
  });

  test.each([
    ['no JSON', 'hello', 'ENVELOPE_MALFORMED'],
    ['a field twice', '{"product":"quantix-os","product":"quantix-vdc"}', 'ENVELOPE_MALFORMED'],
    ['nothing to install', JSON.stringify(manifestOf({ components: [] })), 'MANIFEST_INVALID'],
  ])('signs no manifest that is %s', async (_title, text, code) => {
    await writeFile(at('manifest.json'), text);
    refusedWith(await sign('--key', at('alice.private.json'), '--json'), code);
  });

  test('warns when others can read the key, and says nothing of what is in it', async () => {
    await chmod(at('alice.private.json'), 0o644);
    const { stderr, stdout } = await signByAlice();
    expect(stderr).toContain('chmod 600');
    expect(stderr + stdout).not.toContain((await readJson('alice.private.json')).private_key);
  });

  test('a broken key file is refused without showing it', async () => {
    await writeFile(at('alice.private.json'), '{"format":1,"key_id":"alice","private_key":"c2VjcmV0"}');
    const ran = await sign('--key', at('alice.private.json'), '--json');
    refusedWith(ran, 'KEYRING_INVALID');
    expect(ran.stdout + ran.stderr).not.toContain('c2VjcmV0');
  });

  test('without any key', async () => {
    expect(await release(['sign', at('manifest.json')])).toMatchObject({ exitCode: 2 });
    expect(await release(['sign', at('nothing.json'), '--key', at('alice.private.json')])).toMatchObject({
      exitCode: 1,
    });
  });
});

requires({ commands: ['openssl'] })('sign with a program of one’s own', () => {
  const vault = { publicKey: '' };

  beforeEach(async () => {
    await execa('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', at('vault.pem')]);
    const { stdout } = await execa('openssl', ['pkey', '-in', at('vault.pem'), '-pubout', '-outform', 'DER'], {
      encoding: 'buffer',
      stripFinalNewline: false,
    });
    vault.publicKey = stdout.subarray(-32).toBase64();
    // Ed25519 in openssl needs a file of known length.
    const script = `#!/bin/sh
set -e
cat >"$2/message"
openssl pkeyutl -sign -rawin -inkey "$1" -in "$2/message" | base64 -w0
`;
    await writeFile(at('vault-sign'), script, { mode: 0o755 });
  });

  const command = () => `${at('vault-sign')} "${at('vault.pem')}" '${place.dir}'`;
  const signByVault = (...more: string[]) => sign('--signer', command(), '--signer-key-id', 'vault-1', ...more);

  test('openssl signs, and what it signed holds', async () => {
    const args = ['--key-id', 'vault-1', '--public-key', vault.publicKey, '--keyring', at('keyring.json')];
    expect(await release(['trust', ...args])).toMatchObject({ exitCode: 0 });
    expect(await signByVault('--signer-public-key', vault.publicKey)).toMatchObject({ exitCode: 0, stderr: '' });
    expect(document(await verify('--json'))).toMatchObject({ key_ids: ['vault-1'] });
  });

  test('a signature by another key than was said is found at once', async () => {
    const { publicKey } = await testKey('alice');
    refusedWith(await signByVault('--signer-public-key', publicKey, '--json'), 'SIGNATURE_INVALID');
    expect(await readdir(place.dir)).not.toContain('manifest.signed.json');
  });

  test('an unchecked signature is said to be one', async () => {
    expect((await signByVault()).stderr).toContain('was not checked');
  });

  test.each([
    ['fails', '#!/bin/sh\nexit 3\n', 'SIGNATURE_INVALID'],
    ['prints something else', '#!/bin/sh\necho no\n', 'SIGNATURE_MALFORMED'],
  ])('a program that %s', async (_title, script, code) => {
    await writeFile(at('vault-sign'), script);
    refusedWith(await signByVault('--json'), code);
  });

  test('no shell reads the command', async () => {
    const words = `$(touch ${at('owned')}) ; touch ${at('owned')} | touch ${at('owned')} > ${at('owned')}`;
    const ran = await sign('--signer', `${command()} ${words}`, '--signer-key-id', 'vault-1');
    expect(ran).toMatchObject({ exitCode: 0 });
    expect(await readdir(place.dir)).not.toContain('owned');
  });
});

test.each([
  ['sign', ['sign']],
  ['  vault  -k "my key" ', ['vault', '-k', 'my key']],
  ['vault \'a "b"\' $HOME;ls', ['vault', 'a "b"', '$HOME;ls']],
  ['vault ""', ['vault', '']],
])('the command %j has the words %j', (command, words) => {
  expect(splitCommand(command)).toEqual(words);
});

test('no command is no signer', () => {
  expect(() => splitCommand('  ')).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

describe('verify', () => {
  test('says what was signed by whom, and that the files are those', async () => {
    await signByAlice();
    const ran = await verify('--artifacts', '--json');
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    const { artifact, sha256, size_bytes } = { ...manifestOf().components[0] };
    expect(document(ran)).toEqual({
      schema: 'qx-release.verify/1',
      product: 'quantix-os',
      version: '1.1.0',
      channel: 'dev',
      release_date: '2026-11-01T00:00:00Z',
      sequence: 7,
      expires_at: '2099-01-01T00:00:00Z',
      is_expired: false,
      is_dated_ahead: false,
      digest: expect.stringMatching(/^[a-f0-9]{64}$/),
      key_ids: ['alice'],
      artifacts: [{ artifact, sha256, size_bytes }],
    });
  });

  test.each([
    ['2099-01-02T00:00:00Z', /^expired at 2099-01-01/],
    ['2026-10-01T00:00:00Z', /^dated 2026-11-01/],
  ])('at %s no host would install it, and it says so', async (now, told) => {
    await signByAlice();
    const clock = {
      nowMs: () => Date.parse(now),
      monotonicMs: () => 0,
      isSynchronised: async () => true,
      sleep: async () => {},
    };
    const ran = await release(['verify', at('manifest.signed.json'), '--keyring', at('keyring.json')], { clock });
    expect(ran).toMatchObject({ exitCode: 7, stderr: expect.stringMatching(told) });
  });

  test('of a folder: everything in it', async () => {
    await signByAlice();
    const ran = await release(['verify', place.dir, '--keyring', at('keyring.json'), '--json']);
    expect(document(ran)).toMatchObject({ artifacts: [{ artifact: 'qx-node.tar.zst' }] });
    await rm(at('qx-node.tar.zst'));
    refusedWith(await release(['verify', place.dir, '--keyring', at('keyring.json'), '--json']), 'ARTIFACT_MISSING');
  });

  test.each<[string, string, () => Promise<unknown>]>([
    ['other bytes of the same length', 'HASH_MISMATCH', () => writeFile(at('qx-node.tar.zst'), content.toUpperCase())],
    ['more bytes', 'SIZE_MISMATCH', () => writeFile(at('qx-node.tar.zst'), `${content}!`)],
    ['no file', 'ARTIFACT_MISSING', () => rm(at('qx-node.tar.zst'))],
  ])('%s', async (_title, code, spoil) => {
    await signByAlice();
    await spoil();
    refusedWith(await verify('--artifacts', place.dir, '--json'), code);
  });

  test('a manifest that was changed after it was signed', async () => {
    await signByAlice();
    const text = await readFile(at('manifest.signed.json'), 'utf8');
    await writeFile(at('manifest.signed.json'), text.replace('"1.1.0"', '"1.1.1"'));
    refusedWith(await verify('--json'), 'SIGNATURE_INVALID');
    const plain = await verify();
    expect(plain).toMatchObject({ exitCode: 7, stdout: '' });
    expect(plain.stderr).toContain('[SIGNATURE_INVALID]');
  });

  test('a manifest without any signature', async () => {
    await copyFile(at('manifest.json'), at('manifest.signed.json'));
    refusedWith(await verify('--json'), 'UNSIGNED');
  });

  test('a program without keys trusts nobody', async () => {
    await signByAlice();
    refusedWith(await release(['verify', at('manifest.signed.json'), '--json']), 'KEYRING_INVALID');
  });

  test('the keyring may come with the program or from the environment', async () => {
    await signByAlice();
    const keyring = new Uint8Array(await readFile(at('keyring.json')));
    const verifyBy = (changes: Partial<ReleaseTools>) => release(['verify', at('manifest.signed.json')], changes);
    expect(await verifyBy({ bakedKeyring: () => keyring })).toMatchObject({ exitCode: 0 });
    expect(await verifyBy({ env: { QX_KEYRING: at('keyring.json') } })).toMatchObject({ exitCode: 0 });
  });
});

describe('refresh', () => {
  const refresh = (...more: string[]) =>
    release([
      ...['refresh', at('manifest.signed.json'), '--key', at('alice.private.json')],
      ...['--keyring', at('keyring.json'), ...more],
    ]);

  test('changes sequence and expiry, and nothing else', async () => {
    await signByAlice();
    const before = (await readJson('manifest.signed.json')).manifest;
    const digest = document(await verify('--json')).digest;
    const nowMs = Date.now();
    expect(await refresh('--expires-in', '90d')).toMatchObject({ exitCode: 0, stderr: '' });
    const after = (await readJson('manifest.signed.json')).manifest;
    const { sequence, expires_at, ...rest } = after;
    expect({ ...rest, sequence: before.sequence, expires_at: before.expires_at }).toEqual(before);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    expect(sequence).toBeGreaterThanOrEqual(Math.floor(nowMs / 1000));
    expect(Date.parse(expires_at) - nowMs).toBeCloseTo(90 * 86_400_000, -5);
    expect(document(await verify('--json'))).toMatchObject({ sequence, digest });
  });

  test('each time higher than before, even within one second', async () => {
    await signByAlice();
    const seen: unknown[] = [];
    for (let i = 0; i < 3; i++) seen.push(document(await refresh('--expires-in', '1h', '--json')).sequence);
    expect(seen).toEqual([...seen].sort());
    expect(new Set(seen).size).toBe(3);
  });

  test.each(['7', '6'])('refuses sequence %s after 7', async (sequence) => {
    await signByAlice();
    const before = await readFile(at('manifest.signed.json'), 'utf8');
    refusedWith(await refresh('--expires-in', '1h', '--sequence', sequence, '--json'), 'SEQUENCE_REPLAYED');
    expect(await readFile(at('manifest.signed.json'), 'utf8')).toBe(before);
  });

  test('a build date does not put the expiry into the past', async () => {
    await signByAlice();
    const args = ['refresh', at('manifest.signed.json'), '--key', at('alice.private.json'), '--expires-in', '1h'];
    const env = { SOURCE_DATE_EPOCH: '1700000000', QX_KEYRING: at('keyring.json') };
    const ran = await release([...args, '--json'], { env });
    expect(Date.parse(String(document(ran).expires_at))).toBeGreaterThan(Date.now());
  });

  test('an envelope that nobody trusted signed is not signed again', async () => {
    await writeKey('stranger');
    await sign('--key', at('stranger.private.json'));
    refusedWith(await refresh('--expires-in', '1h', '--json'), 'KEY_UNKNOWN');
  });
});
