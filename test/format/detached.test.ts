import { describe, expect, test } from 'vitest';
import { openDetached } from '../../src/format/detached.ts';
import { detach } from '../../src/format/envelope.ts';
import { bytesOf, edited, refusal, textOf } from '../support/documents.ts';
import { keyringOf, signedManifest, testKey, trusted } from '../support/keys.ts';

const release = await signedManifest();
const detached = textOf(detach(release.envelope));
const [claim = '', message = ''] = detached.split('\n\n');
const opened = (text: string) => refusal(() => openDetached(bytesOf(text), release.keyring));

test('an envelope taken apart opens as the manifest that was signed', async () => {
  expect(claim).toMatch(/^test-key [A-Za-z0-9+/]{86}==$/);
  const { manifest, keyIds, digest } = await openDetached(bytesOf(detached), release.keyring);
  expect([manifest, keyIds]).toEqual([release.manifest, ['test-key']]);
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
});

test('as many signatures as an envelope may have, by key ids as long as they may be', async () => {
  const keys = await Promise.all(
    Array.from({ length: 17 }, (_, i) => testKey(`${'k'.repeat(62)}${String(i).padStart(2, '0')}`)),
  );
  const signed = await signedManifest({ keys });
  const { keyIds } = await openDetached(detach(signed.envelope), keyringOf(keys.map((key) => trusted(key))));
  expect(keyIds).toEqual(keys.map(({ signer }) => signer.keyId));
});

test('a manifest written in another order is signed over its one canonical form', () => {
  const turned = edited(release.envelope, (document) => {
    document.manifest = Object.fromEntries(Object.entries(document.manifest as object).reverse());
  });
  expect(textOf(detach(turned))).toBe(detached);
});

describe('what a process that was taken over could say instead', () => {
  test.each([
    ['nothing', '', 'ENVELOPE_MALFORMED'],
    ['no claim', `\n\n${message}`, 'ENVELOPE_MALFORMED'],
    ['nothing signed', claim, 'ENVELOPE_MALFORMED'],
    ['an empty line too many', `${claim}\n\n\n${message}`, 'SIGNATURE_INVALID'],
    ['an envelope', textOf(release.envelope), 'ENVELOPE_MALFORMED'],
    ['a claim without a signature', `test-key\n\n${message}`, 'ENVELOPE_MALFORMED'],
    ['two spaces', `${claim.replace(' ', '  ')}\n\n${message}`, 'ENVELOPE_MALFORMED'],
    ['a key id with a path', `${claim.replace('test-key', '../x')}\n\n${message}`, 'ENVELOPE_MALFORMED'],
    ['a key that nobody knows', `${claim.replace('test-key', 'other')}\n\n${message}`, 'KEY_UNKNOWN'],
    ['claims without end', `${`${claim}\n`.repeat(100)}\n${message}`, 'ENVELOPE_MALFORMED'],
    ['other bytes', `${claim}\n\n${message.replace('1', '2')}`, 'SIGNATURE_INVALID'],
    ['a second claim by nobody', `${claim}\nother ${claim.split(' ')[1]}\n\n${message}`, 'KEY_UNKNOWN'],
  ])('%s', async (_title, text, code) => {
    expect(await opened(text)).toBe(code);
  });

  test('bytes that are no JSON are not even read before their signature fits', async () => {
    const code = await opened(`${claim}\n\n${'['.repeat(100_000)}`);
    expect(code).toBe('SIGNATURE_INVALID');
  });
});
