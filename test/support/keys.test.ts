import { expect, test } from 'vitest';
import { openEnvelope } from '../../src/format/envelope.ts';
import { readKeyring } from '../../src/format/keyring.ts';
import { keyringOf, signedManifest, testKey, trusted } from './keys.ts';

test('a label always gives the same key, another label another one', async () => {
  const [once, again, other] = await Promise.all([testKey('a'), testKey('a'), testKey('b')]);
  expect(again.publicKey).toBe(once.publicKey);
  expect(other.publicKey).not.toBe(once.publicKey);
});

test('a signed manifest opens under its own keyring', async () => {
  const { envelope, keyring, manifest } = await signedManifest({ manifest: { version: '2.0.0' }, keys: ['a', 'b'] });
  const opened = await openEnvelope(envelope, keyring);
  expect(opened.manifest).toEqual(manifest);
  expect(opened.keyIds).toEqual(['a', 'b']);
});

test('and its keyring is one that the product reads', async () => {
  const keyring = keyringOf([trusted(await testKey('a'))], { kind: 'release' });
  expect(readKeyring(new TextEncoder().encode(JSON.stringify(keyring)))).toEqual(keyring);
});
