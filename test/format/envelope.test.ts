import { createHash } from 'node:crypto';
import { utils, verifyAsync } from '@noble/ed25519';
import { describe, expect, test } from 'vitest';
import { signedBytes } from '../../src/format/detached.ts';
import { openEnvelope } from '../../src/format/envelope.ts';
import type { Json } from '../../src/format/json.ts';
import type { Keyring } from '../../src/format/keyring.ts';
import { bytesOf, edited, refusal, textOf } from '../support/documents.ts';
import { keyringOf, signedManifest, testKey, trusted } from '../support/keys.ts';

const release = await signedManifest();
const [keyA, keyB] = [await testKey('key-a'), await testKey('key-b')];
const opened = (bytes: Uint8Array, keyring: Keyring = release.keyring) => refusal(() => openEnvelope(bytes, keyring));
const withFields = (fields: { readonly [name: string]: unknown }) =>
  edited(release.envelope, (envelope) => void Object.assign(envelope, fields));
const signature = (JSON.parse(textOf(release.envelope)) as { signature: string }).signature;
const base64 = (length: number, fill = 0) => new Uint8Array(length).fill(fill).toBase64();

describe('T01 signature', () => {
  test.each<[string, unknown, string]>([
    ['null', null, 'SIGNATURE_MALFORMED'],
    ['a number', 1, 'SIGNATURE_MALFORMED'],
    ['a list', [signature], 'SIGNATURE_MALFORMED'],
    ['empty', '', 'SIGNATURE_MALFORMED'],
    ['63 bytes', base64(63, 7), 'SIGNATURE_MALFORMED'],
    ['65 bytes', base64(65, 7), 'SIGNATURE_MALFORMED'],
    ['base64url', `${'_-'.repeat(43)}==`, 'SIGNATURE_MALFORMED'],
    ['without padding', signature.slice(0, 86), 'SIGNATURE_MALFORMED'],
    ['junk after the padding', `${signature}AAAA`, 'SIGNATURE_MALFORMED'],
    ['a line break at the end', `${signature}\n`, 'SIGNATURE_MALFORMED'],
    ['two signatures joined', signature + signature, 'SIGNATURE_MALFORMED'],
    ['hex', '00'.repeat(64), 'SIGNATURE_MALFORMED'],
    ['64 zero bytes', base64(64), 'SIGNATURE_INVALID'],
    ['64 bytes of 0xff', base64(64, 0xff), 'SIGNATURE_INVALID'],
    [
      'bits beyond the last byte',
      `${signature.slice(0, 85)}${signature[85] === 'B' ? 'D' : 'B'}==`,
      'SIGNATURE_INVALID',
    ],
  ])('%s', async (_title, value, code) => {
    expect(await opened(withFields({ signature: value }))).toBe(code);
  });

  test('absent', async () => {
    const without = edited(release.envelope, (envelope) => delete envelope.signature);
    expect(await opened(without)).toBe('SIGNATURE_MALFORMED');
  });

  test('a bare manifest is told apart: nobody signed it', async () => {
    expect(await opened(release.manifestBytes)).toBe('UNSIGNED');
  });
});

describe('T02 algorithm', () => {
  test.each([['none'], ['ED25519'], ['Ed25519'], ['rs256'], [['ed25519']], [null], ['ed25519 '], [''], [25519]])(
    '%j is refused before any key is looked up',
    async (algorithm) => {
      const bytes = withFields({ algorithm, key_id: 'unknown-key', signature: 'nonsense' });
      expect(await opened(bytes)).toBe('ALGORITHM_UNSUPPORTED');
    },
  );

  test('missing', async () => {
    const without = edited(release.envelope, (envelope) => delete envelope.algorithm);
    expect(await opened(without)).toBe('ALGORITHM_UNSUPPORTED');
  });
});

describe('T03 key_id', () => {
  test.each([
    ['unknown', 'KEY_UNKNOWN'],
    ['constructor', 'KEY_UNKNOWN'],
    ['test-key2', 'KEY_UNKNOWN'],
    ['', 'ENVELOPE_MALFORMED'],
    ['../x', 'ENVELOPE_MALFORMED'],
    ['__proto__', 'ENVELOPE_MALFORMED'],
    ['Test-Key', 'ENVELOPE_MALFORMED'],
    ['test-key\n', 'ENVELOPE_MALFORMED'],
    ['a'.repeat(65), 'ENVELOPE_MALFORMED'],
  ])('%j', async (keyId, code) => {
    expect(await opened(withFields({ key_id: keyId }))).toBe(code);
  });

  test.each([
    ['constructor', 'KEY_UNKNOWN'],
    ['__proto__', 'ENVELOPE_MALFORMED'],
    ['../x', 'ENVELOPE_MALFORMED'],
    ['', 'ENVELOPE_MALFORMED'],
  ])('%j among the further signatures', async (keyId, code) => {
    expect(await opened(withFields({ signatures: [{ key_id: keyId, signature }] }))).toBe(code);
  });

  test("another product's key", async () => {
    const { envelope } = await signedManifest({ keys: [keyA] });
    const keyring = keyringOf([trusted(keyA, { products: ['quantix-vdc'] })]);
    expect(await opened(envelope, keyring)).toBe('KEY_NOT_ALLOWED');
  });

  test("another channel's key", async () => {
    const { envelope } = await signedManifest({ keys: [keyA], manifest: { channel: 'stable' } });
    const keyring = keyringOf([trusted(keyA, { channels: ['dev', 'beta'] })]);
    expect(await opened(envelope, keyring)).toBe('KEY_NOT_ALLOWED');
  });

  test.each(['1999-01-01T00:00:00Z', '2026-11-01T00:00:00Z', '2099-01-01T00:00:00Z'])(
    'a retired key, with a signature dated %s',
    async (signedAt) => {
      const { envelope } = await signedManifest({ keys: [keyA], signedAt });
      expect(await opened(envelope, keyringOf([trusted(keyA, { retired: true })]))).toBe('KEY_RETIRED');
    },
  );

  test('an empty keyring trusts nobody', async () => {
    expect(await opened(release.envelope, keyringOf([], { kind: 'none' }))).toBe('KEY_UNKNOWN');
  });
});

test("T04 key A's signature under key B's name is refused, though both are trusted", async () => {
  const { envelope } = await signedManifest({ keys: [keyA] });
  const renamed = edited(envelope, (fields) => void Object.assign(fields, { key_id: keyB.keyId }));
  expect(await opened(renamed, keyringOf([trusted(keyA), trusted(keyB)]))).toBe('SIGNATURE_INVALID');
});

test.each(['public_key', 'jwk', 'x5c', 'x5u', 'certificate'])(
  'T05 a key inside the envelope (%s) is refused',
  async (field) => {
    const stranger = await signedManifest({ keys: [keyB] });
    const carrying = edited(stranger.envelope, (fields) => void Object.assign(fields, { [field]: keyB.publicKey }));
    expect(await opened(carrying)).toBe('ENVELOPE_MALFORMED');
    expect(await opened(stranger.envelope)).toBe('KEY_UNKNOWN');
  },
);

test('T06 S + L, another number for the same signature, is refused', async () => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const bytes = Uint8Array.fromBase64(signature);
  let s = order;
  for (let i = 0; i < 32; i++) s += BigInt(bytes[32 + i] ?? 0) << BigInt(8 * i);
  for (let i = 0; i < 32; i++) bytes[32 + i] = Number((s >> BigInt(8 * i)) & 0xffn);
  expect(await opened(withFields({ signature: bytes.toBase64() }))).toBe('SIGNATURE_INVALID');
});

test('T06 an encoding of R that other verifiers refuse is refused here too', async () => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const { seed, publicKey } = await testKey('test-key');
  const { scalar } = await utils.getExtendedPublicKeyAsync(seed);
  // The identity, written as p + 1: with it anybody who has the key can sign in a second way, which zip215 would accept.
  const identity = Uint8Array.fromHex(`ee${'ff'.repeat(30)}7f`);
  const message = signedBytes(release.manifest as unknown as Json);
  const digest = createHash('sha512')
    .update(identity)
    .update(Uint8Array.fromBase64(publicKey))
    .update(message)
    .digest();
  const s = (littleEndian(digest) * scalar) % order;
  const forged = Uint8Array.from({ length: 64 }, (_, i) =>
    i < 32 ? (identity[i] ?? 0) : Number((s >> BigInt(8 * (i - 32))) & 0xffn),
  );
  const lax = await verifyAsync(forged, message, Uint8Array.fromBase64(publicKey), { zip215: true });
  expect(lax).toBe(true);
  expect(await opened(withFields({ signature: forged.toBase64() }))).toBe('SIGNATURE_INVALID');
});

const littleEndian = (bytes: Uint8Array): bigint => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

describe('T08 the same manifest written in another way', () => {
  const { manifest, ...rest } = JSON.parse(textOf(release.envelope)) as { manifest: { [name: string]: unknown } };
  const around = (text: string) => bytesOf(`{"manifest":${text},${JSON.stringify(rest).slice(1)}`);
  const reversed = Object.fromEntries(Object.entries(manifest).reverse());

  test.each([
    ['other spaces', JSON.stringify(manifest, null, 3)],
    ['another order of keys', JSON.stringify(reversed)],
    ['escapes', JSON.stringify(manifest).replaceAll('a', '\\u0061')],
  ])('%s: the canonical form is the same, so it is accepted, and says the same', async (_title, text) => {
    const result = await openEnvelope(around(text), release.keyring);
    expect(result.manifest).toEqual(release.manifest);
    expect(textOf(result.manifestBytes)).toBe(text);
    expect(result.digest).toBe((await openEnvelope(release.envelope, release.keyring)).digest);
  });

  test.each([
    ['version twice', JSON.stringify(manifest).replace('{', '{"version":"9.9.9",')],
    ['a nested key twice', JSON.stringify(manifest).replace('"name":', '"name":"x","name":')],
    ['__proto__', JSON.stringify(manifest).replace('{', '{"__proto__":{"version":"9.9.9"},')],
    ['1.0 for 1', JSON.stringify(manifest).replace(/"size_bytes":(\d+)/, '"size_bytes":$1.0')],
    ['an exponent', JSON.stringify(manifest).replace(/"size_bytes":(\d+)/, '"size_bytes":$1e0')],
  ])('%s is refused before the signature is looked at', async (_title, text) => {
    expect(await opened(around(text))).toBe('ENVELOPE_MALFORMED');
  });

  test('2 MB', async () => {
    expect(await opened(around(`${' '.repeat(2_000_000)}{}`))).toBe('ENVELOPE_MALFORMED');
  });

  test.each([['null'], ['[]'], ['"text"'], ['5']])('manifest is %s', async (text) => {
    expect(await opened(around(text))).toBe('ENVELOPE_MALFORMED');
  });

  test.each(['null', '[]', '5', '"x"', '', 'not json'])('the document is %s', async (text) => {
    expect(await opened(bytesOf(text))).toBe('ENVELOPE_MALFORMED');
  });
});

describe('T09 what stands outside of manifest decides nothing', () => {
  test.each(['1970-01-01T00:00:00Z', '2099-12-31T23:59:59Z'])('signed_at moved to %s', async (signedAt) => {
    const moved = await openEnvelope(withFields({ signed_at: signedAt }), release.keyring);
    expect(moved).toEqual(await openEnvelope(release.envelope, release.keyring));
  });

  test.each([['yesterday'], [''], [null], [0]])('signed_at %j has no meaning and is refused', async (signedAt) => {
    expect(await opened(withFields({ signed_at: signedAt }))).toBe('ENVELOPE_MALFORMED');
  });

  test.each(['version', 'channel', 'sequence', 'expires_at'])(
    'a copy of %s in the envelope is refused',
    async (field) => {
      expect(await opened(withFields({ [field]: 'dev' }))).toBe('ENVELOPE_MALFORMED');
    },
  );
});

describe('a threshold', () => {
  const keyring = keyringOf([trusted(keyA), trusted(keyB)], { thresholds: { 'quantix-os/dev': 2 } });
  const signedBy = async (...keys: string[]) => (await signedManifest({ keys })).envelope;

  test('of two is met by two keys', async () => {
    expect((await openEnvelope(await signedBy('key-a', 'key-b'), keyring)).keyIds).toEqual(['key-a', 'key-b']);
  });

  test('is not met by one key', async () => {
    expect(await opened(await signedBy('key-a'), keyring)).toBe('THRESHOLD_NOT_MET');
  });

  test('is not met by one key twice', async () => {
    expect(await opened(await signedBy('key-a', 'key-a'), keyring)).toBe('THRESHOLD_NOT_MET');
  });

  test('is not met by a key that may not sign this channel', async () => {
    const limited = { ...keyring, keys: [trusted(keyA), trusted(keyB, { channels: ['stable'] })] };
    expect(await opened(await signedBy('key-a', 'key-b'), limited)).toBe('THRESHOLD_NOT_MET');
  });

  test('holds for its own channel only', async () => {
    const { envelope } = await signedManifest({ keys: [keyA], manifest: { channel: 'beta' } });
    expect(await opened(envelope, keyring)).toBeNull();
  });

  test('a second signature that is wrong refuses the release, though the first would do', async () => {
    const spoiled = edited(await signedBy('key-a'), (fields) => {
      fields.signatures = [{ key_id: 'key-b', signature: base64(64) }];
    });
    expect(await opened(spoiled, keyringOf([trusted(keyA), trusted(keyB)]))).toBe('SIGNATURE_INVALID');
  });
});
