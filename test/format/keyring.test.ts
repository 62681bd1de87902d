import { describe, expect, test } from 'vitest';
import { publicKeyBytes, readKeyring, thresholdFor } from '../../src/format/keyring.ts';
import { bytesOf, refusal } from '../support/documents.ts';
import { keyringOf, testKey, trusted } from '../support/keys.ts';

const key = await testKey('key-a');
const other = await testKey('key-b');
const good = keyringOf([trusted(key), trusted(other)], { kind: 'release', thresholds: { 'quantix-os/stable': 2 } });
const read = (document: unknown) => readKeyring(bytesOf(JSON.stringify(document)));

describe('T06 keys of small order', () => {
  const hex = [
    ['the identity', `01${'00'.repeat(31)}`],
    ['zero', '00'.repeat(32)],
    ['order 2', `ec${'ff'.repeat(30)}7f`],
    ['order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
    ['order 8, other sign', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
    ['the identity, not canonical', `ee${'ff'.repeat(30)}7f`],
    ['the identity with the sign bit', `01${'00'.repeat(30)}80`],
    ['zero, not canonical', `ed${'ff'.repeat(30)}7f`],
  ] as const;

  test.each(hex)('%s is refused wherever a key is read', async (_name, encoding) => {
    const public_key = Uint8Array.fromHex(encoding).toBase64();
    expect(await refusal(() => publicKeyBytes(public_key))).toBe('KEY_UNSAFE');
    expect(await refusal(() => read(keyringOf([{ ...trusted(key), public_key }])))).toBe('KEY_UNSAFE');
  });

  test.each([
    ['not on the curve', `02${'00'.repeat(31)}`],
    ['31 bytes', '11'.repeat(31)],
    ['33 bytes', '11'.repeat(33)],
  ])('%s', async (_name, encoding) => {
    expect(await refusal(() => publicKeyBytes(Uint8Array.fromHex(encoding).toBase64()))).toBe('KEY_UNSAFE');
  });

  test('an ordinary key is taken', () => {
    expect(publicKeyBytes(key.publicKey).toBase64()).toBe(key.publicKey);
  });
});

describe('a keyring', () => {
  test('is read as it was written', () => {
    expect(read(good)).toEqual(good);
    expect(thresholdFor(good, 'quantix-os', 'stable')).toBe(2);
    expect(thresholdFor(good, 'quantix-os', 'dev')).toBe(1);
    expect(thresholdFor(keyringOf([]), 'constructor', 'dev')).toBe(1);
  });

  test.each<[string, unknown, string]>([
    ['format 2', { ...good, format: 2 }, 'KEYRING_INVALID'],
    ['epoch 0', { ...good, epoch: 0 }, 'KEYRING_INVALID'],
    ['an unknown kind', { ...good, kind: 'test' }, 'KEYRING_INVALID'],
    ['an unknown field', { ...good, trust_all: true }, 'KEYRING_INVALID'],
    ['an unknown field of a key', { ...good, keys: [{ ...trusted(key), revoked: true }] }, 'KEYRING_INVALID'],
    ['a key for no product', { ...good, keys: [trusted(key, { products: [] })] }, 'KEYRING_INVALID'],
    ['a key for no channel', { ...good, keys: [trusted(key, { channels: [] })] }, 'KEYRING_INVALID'],
    [
      'one id for two keys',
      { ...good, keys: [trusted(key), { ...trusted(other), key_id: key.keyId }] },
      'KEYRING_INVALID',
    ],
    [
      'one key under two ids',
      { ...good, keys: [trusted(key), { ...trusted(key), key_id: 'key-c' }] },
      'KEYRING_INVALID',
    ],
    ['a key id that is a path', { ...good, keys: [{ ...trusted(key), key_id: '../x' }] }, 'KEYRING_INVALID'],
    ['a threshold of 0 (T20)', { ...good, thresholds: { 'quantix-os/dev': 0 } }, 'KEYRING_INVALID'],
    ['a threshold of -1 (T20)', { ...good, thresholds: { 'quantix-os/dev': -1 } }, 'KEYRING_INVALID'],
    ['a threshold of 1.5 (T20)', { ...good, thresholds: { 'quantix-os/dev': 1.5 } }, 'KEYRING_INVALID'],
    [
      'a threshold for a channel that is misspelt',
      { ...good, thresholds: { 'quantix-os/stabel': 2 } },
      'KEYRING_INVALID',
    ],
    ['a threshold that no release can meet', { ...good, thresholds: { 'quantix-os/dev': 3 } }, 'KEYRING_INVALID'],
  ])('with %s is refused', async (_title, document, code) => {
    expect(await refusal(() => read(document))).toBe(code);
  });

  test('a retired key does not help to meet a threshold', async () => {
    const document = { ...good, keys: [trusted(key), trusted(other, { retired: true })] };
    expect(await refusal(() => read(document))).toBe('KEYRING_INVALID');
  });
});
