import assert from 'node:assert/strict';
import { openDetached, signedBytes } from '../../../src/format/detached.ts';
import { detach, openEnvelope } from '../../../src/format/envelope.ts';
import { type Json, parseStrict } from '../../../src/format/json.ts';
import { readKeyring } from '../../../src/format/keyring.ts';
import { artifactsOf, readManifest } from '../../../src/format/manifest.ts';
import { isInstant } from '../../../src/format/schema.ts';
import { readSigningKey, writeSigningKey } from '../../../src/format/signing-key.ts';
import { isVersion } from '../../../src/format/version.ts';
import { bytesOf, edited, textOf } from '../../support/documents.ts';
import { keyringOf, manifestOf, signedManifest, testKey, trusted } from '../../support/keys.ts';
import { pure, type Target } from '../target.ts';

/** Documents in JSON: what is signed, and who may sign. */

export const DICTIONARY = [
  ...[
    '{',
    '}',
    '[',
    ']',
    '"',
    ':',
    ',',
    '\\',
    '\\u',
    '\\ud800',
    '\\u0000',
    '\\u0301',
    '-',
    '0',
    '-0',
    '1.0',
    '1e9',
    'null',
    'true',
  ],
  ...[
    '9007199254740992',
    '{}',
    '[]',
    '""',
    '"__proto__":',
    '"constructor":',
    '"toString":',
    ',"format":1',
    '"format":2',
    '\0',
    '\ufeff',
  ],
  ...[
    '\u0301',
    'e\u0301',
    '\u00e9',
    '\u202e',
    '\u200b',
    '../',
    '/',
    'a'.repeat(65),
    '02.4.1',
    '2.4',
    'v2.4.1',
    '99999999999999999999.0.0',
  ],
];

const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

/** T08: what two readers could read in two ways, and what could exhaust one. */
export const TRICKS: Target['seeds'] = {
  'the same key twice': '{"version":"1.0.0","version":"2.0.0"}',
  'the same key twice, once escaped': '{"a":{"\\u0062":1,"b":2}}',
  'prototype of all': '{"__proto__":{"polluted":true}}',
  'nested __proto__, escaped': '{"a":{"\\u005f_proto__":{"polluted":true}}}',
  constructor: '{"constructor":{"prototype":{"polluted":true}}}',
  '16 levels': nested(16),
  '200 levels': nested(200),
  '200 levels of objects': '{"a":'.repeat(200),
  'lone surrogate': '"\\ud800"',
  'surrogates the wrong way round': '"\\udc00\\ud800"',
  'surrogate as bytes': Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22),
  'overlong slash': Uint8Array.of(0x22, 0xc0, 0xaf, 0x22),
  'byte order mark': '\ufeff{}',
  'UTF-16': Uint8Array.from(Buffer.from('\ufeff{}', 'utf16le')),
  'not NFC': '"e\u0301"',
  'many marks': `"a${'\u0316\u0301'.repeat(1000)}"`,
  fraction: '[1.0]',
  exponent: '[1e0]',
  'minus zero': '[-0]',
  'unsafe integer': '[9007199254740993]',
  'trailing bytes': '{} {}',
  'a NUL behind': '{}\0',
  comment: '{}//',
  '2 MB': `"${'a'.repeat(2 << 20)}"`,
  '10^5 keys': `{${Array.from({ length: 50_000 }, (_, i) => `"k${i}":1`).join()}}`,
  '10^5 items': `[${'0,'.repeat(100_000)}0]`,
};

const JSON_ERROR = /^SyntaxError$/;

/** Whatever the strict reader accepts, everybody reads the same, and it reads it again from what is written of it. */
function parse(bytes: Uint8Array): Json {
  const { value, members } = parseStrict(bytes);
  assert.deepEqual(value, JSON.parse(textOf(bytes)));
  assert.deepEqual(parseStrict(bytesOf(JSON.stringify(value))).value, value);
  for (const [name, [start, end]] of members) {
    assert.deepEqual(JSON.parse(textOf(bytes.subarray(start, end))), (value as Record<string, Json>)[name]);
  }
  return value;
}

const json: Target = {
  name: 'json',
  seeds: { ...TRICKS, plain: '{"a": [1, -2, true, null, "\\u00e9\\n"], "b": {}}' },
  dictionary: DICTIONARY,
  refusals: JSON_ERROR,
  start: pure(parse),
};

const release = await signedManifest({
  manifest: { ...manifestOf(), min_version: '1.0.0', expires_at: '2027-11-01T00:00:00.5Z' } as never,
  extra: { sequence: 3, compatible: ['x86-64'] },
  keys: ['test-key', 'second-key'],
});
const full = {
  ...release.manifest,
  update_type: 'full',
  full_image: {
    artifact: 'a.squashfs',
    sha256: 'a'.repeat(64),
    size_bytes: 9,
    requires_reboot: true,
    target_slot: 'auto',
  },
  critical: ['sequence'],
};
const manifestWith = (edit: (document: { [field: string]: unknown }) => void) => edited(release.manifestBytes, edit);

/** T14, T24, T26 and T27: names, versions, hashes and places. */
const BAD_NAMES = [
  '..',
  'a/../b',
  '/abs',
  'a%2f..%2f',
  'a\0b',
  'CON',
  '-rf',
  '.hidden',
  'a\nb',
  'a\u202eb',
  'a\u200bb',
  'a'.repeat(300),
  '',
];
const BAD_VERSIONS = ['02.4.1', '2.4', '2.4.1\n', 'v2.4.1', '9'.repeat(300), '9999999999999999999.0.0', '2.4.1-rc1+a'];
const BAD_HASHES = ['A'.repeat(64), 'a'.repeat(63), '', 'd41d8cd98f00b204e9800998ecf8427e', null];

const manifest: Target = {
  name: 'manifest',
  seeds: {
    ...TRICKS,
    valid: release.manifestBytes,
    full: JSON.stringify(full),
    ...Object.fromEntries(
      BAD_NAMES.map((artifact) => [
        `artifact ${JSON.stringify(artifact)}`,
        componentWith({ artifact, name: artifact }),
      ]),
    ),
    ...Object.fromEntries(
      BAD_VERSIONS.map((version) => [`version ${version}`, manifestWith((m) => (m.version = version))]),
    ),
    ...Object.fromEntries(BAD_HASHES.map((sha256) => [`hash ${sha256}`, componentWith({ sha256 })])),
    'another kind of document': manifestWith((m) => (m._type = 'root')),
    'a million characters': manifestWith((m) => (m.version = `1.1.1-${'1a.'.repeat(300_000)}`)),
    'a long date': manifestWith((m) => (m.release_date = '1'.repeat(900_000))),
    'a million marks': componentWith({ install_path: '/a'.repeat(400_000) }),
    '10^5 empty components': manifestWith((m) => (m.components = Array(100_000).fill({}))),
  },
  dictionary: [
    ...DICTIONARY,
    ...Object.keys(full).map((field) => `"${field}":`),
    ...BAD_NAMES.map((name) => JSON.stringify(name)),
  ],
  refusals: /^SyntaxError$|^MANIFEST_(INVALID|CRITICAL_UNKNOWN)$|^VERSION_INVALID$/,
  maxBytes: 8192,
  start: pure((bytes) => {
    const { value } = parseStrict(bytes);
    const read = readManifest(value);
    for (const { artifact, sha256, size_bytes } of artifactsOf(read)) {
      assert.match(artifact, /^[A-Za-z0-9][A-Za-z0-9._+-]*$/);
      assert.match(sha256, /^[0-9a-f]{64}$/);
      assert.ok(size_bytes > 0 && Number.isSafeInteger(size_bytes));
    }
    for (const { install_path, version, name } of read.components) {
      assert.ok(install_path.startsWith('/') && !/\/\.|\/\/|\0/.test(install_path) && isVersion(version));
      assert.match(name, /^[a-z0-9][a-z0-9._-]*$/);
    }
    assert.ok(isVersion(read.version) && isInstant(read.release_date));
    assert.deepEqual(readManifest(parseStrict(signedBytes(value)).value), read);
  }),
};

function componentWith(fields: object): Uint8Array {
  return manifestWith((m) => (m.components = [{ ...release.manifest.components[0], ...fields }]));
}

const SIGNED = textOf(signedBytes(JSON.parse(textOf(release.manifestBytes))));
const envelopeWith = (fields: object) => edited(release.envelope, (document) => Object.assign(document, fields));
const { signature } = JSON.parse(textOf(release.envelope)) as { signature: string };

/** T01 to T06. */
const BAD_SIGNATURES = [
  null,
  '',
  'A'.repeat(88),
  signature.slice(0, 87),
  `${signature}=`,
  signature.replaceAll('/', '_'),
  `${signature}!`,
  signature + signature,
];
const BAD_ALGORITHMS = ['none', 'ED25519', 'rs256', ['ed25519'], null];
const BAD_KEYS = ['', '../x', '__proto__', 'constructor', 'second-key', 'retired-key', 'of-another-product', 1];

const envelope: Target = {
  name: 'envelope',
  seeds: {
    ...TRICKS,
    valid: release.envelope,
    ...Object.fromEntries(BAD_SIGNATURES.map((bad) => [`signature ${bad}`, envelopeWith({ signature: bad })])),
    ...Object.fromEntries(BAD_ALGORITHMS.map((bad) => [`algorithm ${bad}`, envelopeWith({ algorithm: bad })])),
    ...Object.fromEntries(BAD_KEYS.map((bad) => [`key ${bad}`, envelopeWith({ key_id: bad })])),
    'its own key': envelopeWith({ public_key: 'A'.repeat(44), jwk: {}, x5c: [] }),
    'signed later': envelopeWith({ signed_at: '2099-01-01T00:00:00Z' }),
    'one signature twice': envelopeWith({ signatures: [{ key_id: 'test-key', signature }] }),
    'manifest twice': textOf(release.envelope).replace('{', '{"manifest":{"version":"9.9.9"},'),
    'written otherwise': JSON.stringify(JSON.parse(textOf(release.envelope)), null, 1),
    '10^5 signatures': envelopeWith({ signatures: Array(100_000).fill({}) }),
    'unsigned manifest': release.manifestBytes,
  },
  dictionary: [
    ...DICTIONARY,
    ...['manifest', 'signature', 'signatures', 'key_id', 'signed_at', 'algorithm'].map((name) => `"${name}":`),
    'ed25519',
    `"${signature}"`,
  ],
  refusals: /^(ENVELOPE|SIGNATURE|KEY|MANIFEST|VERSION|ALGORITHM|THRESHOLD)_[A-Z_]+$|^UNSIGNED$/,
  maxBytes: 8192,
  start: async () => {
    const [retired, other] = await Promise.all([testKey('retired-key'), testKey('of-another-product')]);
    const strangers = [trusted(retired, { retired: true }), trusted(other, { products: ['quantix-vdc'] })];
    const keyring = keyringOf([...release.keyring.keys, ...strangers], { thresholds: { 'quantix-os/dev': 2 } });
    return {
      run: async (bytes) => {
        const opened = await openEnvelope(bytes, keyring);
        // Nobody but our keys ever signed anything, and they signed this one manifest.
        assert.equal(textOf(signedBytes(opened.manifest as Json)), SIGNED);
        assert.equal(textOf(signedBytes(parseStrict(opened.manifestBytes).value)), SIGNED);
        assert.equal(new Set(opened.keyIds).size, 2);
      },
    };
  },
};

const detached: Target = {
  name: 'detached',
  seeds: {
    valid: detach(release.envelope),
    'nothing signed': textOf(detach(release.envelope)).split('\n\n')[0] ?? '',
    'no claim': `\n\n${SIGNED}`,
    'claims without end': `test-key ${signature}\n`.repeat(1000),
    'one more line': textOf(detach(release.envelope)).replace('\n\n', '\n\n\n'),
    'a path for a key': textOf(detach(release.envelope)).replace('test-key', '../x'),
  },
  dictionary: ['\n', '\n\n', ' ', 'test-key', signature, '{', '}'],
  refusals: /^(ENVELOPE_MALFORMED|SIGNATURE_INVALID|KEY_UNKNOWN)$/,
  maxBytes: 8192,
  start: pure(async (bytes) => {
    const { manifest, keyIds } = await openDetached(bytes, release.keyring);
    assert.equal(textOf(signedBytes(manifest as Json)), SIGNED);
    assert.ok(keyIds.length > 0 && keyIds.every((id) => id === 'test-key' || id === 'second-key'));
  }),
};

const keyringText = JSON.stringify({ ...release.keyring, thresholds: { 'quantix-os/dev': 2 } });

/** T06: keys of small order, and encodings of points that are not the canonical ones. */
const WEAK_KEYS = [
  '01',
  '00',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
];

const keyring: Target = {
  name: 'keyring',
  seeds: {
    ...TRICKS,
    valid: keyringText,
    none: JSON.stringify({ format: 1, epoch: 1, kind: 'none', keys: [] }),
    ...Object.fromEntries(
      WEAK_KEYS.map((hex) => [
        `weak key ${hex}`,
        JSON.stringify({
          ...release.keyring,
          keys: [
            { ...release.keyring.keys[0], public_key: Buffer.from(hex.padEnd(64, '0'), 'hex').toString('base64') },
          ],
        }),
      ]),
    ),
    'a key twice': JSON.stringify({
      ...release.keyring,
      keys: [release.keyring.keys[0], { ...release.keyring.keys[0], key_id: 'other' }],
    }),
  },
  dictionary: [
    ...DICTIONARY,
    ...['keys', 'key_id', 'public_key', 'products', 'channels', 'retired', 'thresholds', 'epoch', 'kind'].map(
      (name) => `"${name}":`,
    ),
    '"quantix-os/dev":',
    '"quantix-vdc"',
    '"stable"',
  ],
  refusals: /^KEYRING_INVALID$|^KEY_UNSAFE$/,
  start: pure((bytes) => {
    const read = readKeyring(bytes);
    assert.deepEqual(readKeyring(bytesOf(JSON.stringify(read))), read);
    const names = read.keys.map((key) => key.public_key);
    assert.equal(new Set(names).size, names.length);
  }),
};

const signingKey: Target = {
  name: 'signing-key',
  seeds: {
    ...TRICKS,
    valid: writeSigningKey('release-key', new Uint8Array(32).fill(7)),
    'key of 31 bytes': JSON.stringify({ format: 1, key_id: 'a', private_key: `${'A'.repeat(42)}==` }),
  },
  dictionary: [...DICTIONARY, '"private_key":', '"key_id":', '='],
  refusals: /^KEYRING_INVALID$/,
  start: pure((bytes) => {
    assert.match(readSigningKey(bytes).keyId, /^[a-z0-9][a-z0-9._-]{0,63}$/);
  }),
};

export const documents: readonly Target[] = [json, manifest, envelope, detached, keyring, signingKey];
