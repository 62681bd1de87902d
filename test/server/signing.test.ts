import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { generateKeys, readSeed } from '../../src/server/signing.ts';
import { hostFiles } from '../../src/system/files.ts';
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
