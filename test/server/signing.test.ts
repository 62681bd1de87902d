import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { writeSigningKey } from '../../src/format/signing-key.ts';
import { createSigner, generateKeys, readSeed } from '../../src/server/signing.ts';
import { hostFiles } from '../../src/system/files.ts';
import { fakeClock } from '../support/fakes.ts';
import { testKey } from '../support/keys.ts';
import { encode } from '../support/publishing.ts';
import { temporaryFolder } from '../support/temp.ts';

const { seed, publicKey } = await testKey('server');
const goKey = Buffer.concat([seed, Buffer.from(publicKey, 'base64')]);

describe('a signing key file', () => {
  test.each([
    ['32 bytes', seed],
    ['base64 of 32 bytes', encode(seed.toBase64())],
    ['base64 with a line end', encode(`${seed.toBase64()}\n`)],
    ["Go's 64 bytes", new Uint8Array(goKey)],
    ["base64 of Go's 64 bytes, as the ancestor wrote it", encode(`${goKey.toString('base64')}\n`)],
  ])('of %s', async (_form, file) => expect(await readSeed(file)).toEqual(seed));

  test.each([
    ['nothing', new Uint8Array()],
    ['33 bytes', new Uint8Array(33)],
    ['PEM', encode('-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n')],
    ['a Go key whose halves do not belong together', new Uint8Array(64).fill(7)],
  ])('of %s is refused without quoting it', async (_form, file) => {
    await expect(readSeed(file)).rejects.toMatchObject({
      code: 'KEY_UNSAFE',
      message: expect.not.stringContaining('MC4='),
    });
  });
});

test('a key of qx-release keygen is taken as it is, under its own name unless another is given', async () => {
  const clock = fakeClock();
  const file = writeSigningKey('acme-dev-1', seed);
  expect(await createSigner(file, null, clock)).toMatchObject({ keyId: 'acme-dev-1', publicKey });
  expect(await createSigner(file, 'other', clock)).toMatchObject({ keyId: 'other', publicKey });
  expect(await createSigner(seed, null, clock)).toMatchObject({ keyId: 'quantix-release-key-1', publicKey });
  await expect(
    createSigner(encode(`{"format":1,"private_key":"${seed.toBase64()}","x":1}`), null, clock),
  ).rejects.toMatchObject({
    code: 'KEYRING_INVALID',
    message: expect.not.stringContaining(seed.toBase64()),
  });
});

test('generated keys belong together, are private, and never replace others', async () => {
  const folder = join(await temporaryFolder(), 'keys');
  const paths = await generateKeys(hostFiles(''), folder);
  expect((await stat(paths.privateKey)).mode & 0o777).toBe(0o600);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
  const made = await readFile(paths.privateKey);
  expect(await readSeed(made)).toHaveLength(32);
  await expect(generateKeys(hostFiles(''), folder)).rejects.toMatchObject({ code: 'REFUSED_OVERWRITE' });
  expect(await readFile(paths.privateKey)).toEqual(made);
  expect(await readdir(folder)).toEqual(['signing-private.key', 'signing-public.key']);
});
