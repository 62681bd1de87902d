import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { QxError } from '../../src/errors.ts';
import { type Invitation, isServerHost, readInvitation, writeInvitation } from '../../src/format/invitation.ts';
import { readNodeKey } from '../../src/format/node-key.ts';
import { refusal } from '../support/documents.ts';

const letters = (alphabet: string, minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...alphabet), minLength, maxLength });
const LOWER = 'abcdefghijklmnopqrstuvwxyz0123456789';
const BASE64URL = `${LOWER}ABCDEFGHIJKLMNOPQRSTUVWXYZ-_`;

const name = fc.constantFrom(
  'updates.example.org',
  'a',
  'xn--bcher-kva.example',
  '192.0.2.7',
  '[2001:db8::1]',
  '[::1]',
);
const port = fc.option(fc.integer({ min: 1, max: 65535 }), { nil: null });
const host = fc.tuple(name, port).map(([of, at]) => (at === null ? of : `${of}:${at}`));
const invitation: fc.Arbitrary<Invitation> = fc.record({
  id: letters(LOWER, 6, 32),
  secret: letters(LOWER, 26, 64),
  pin: letters(BASE64URL, 43, 43),
  host,
});

describe('a join string', () => {
  test('is read as it was written', () => {
    fc.assert(
      fc.property(invitation, (one) => {
        expect(readInvitation(writeInvitation(one))).toEqual(one);
      }),
    );
  });

  test('with one letter more, less or different is either another one or refused by name', () => {
    const edit = fc.tuple(
      invitation,
      fc.nat(200),
      fc.constantFrom('', ' ', '.', 'A', '\n', '\u{0}', '/', '@', 'ß', '%'),
    );
    fc.assert(
      fc.property(edit, ([one, at, put]) => {
        const text = writeInvitation(one);
        const place = at % (text.length + 1);
        const edited = `${text.slice(0, place)}${put}${text.slice(place + 1)}`;
        try {
          expect(writeInvitation(readInvitation(edited))).toBe(edited);
        } catch (error) {
          expect(error).toBeInstanceOf(QxError);
          expect((error as QxError).message).not.toContain(one.secret);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('any junk is refused by name', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.string().map((tail) => `qx1.${tail}`),
        ),
        (junk) => {
          expect(() => readInvitation(junk)).toThrow(QxError);
        },
      ),
    );
  });

  const [id, secret, pin] = ['abcdef', 'a'.repeat(26), 'A'.repeat(43)];
  test.each([
    ['too short an id', `qx1.abcde.${secret}.${pin}.host`],
    ['too short a secret', `qx1.${id}.${secret.slice(1)}.${pin}.host`],
    ['a pin of another length', `qx1.${id}.${secret}.${pin}A.host`],
    ['another format', `qx2.${id}.${secret}.${pin}.host`],
    ['no host', `qx1.${id}.${secret}.${pin}.`],
    ['a host with a user', `qx1.${id}.${secret}.${pin}.user@host`],
    ['a host with a path', `qx1.${id}.${secret}.${pin}.host/path`],
    ['port 0', `qx1.${id}.${secret}.${pin}.host:0`],
    ['port 65536', `qx1.${id}.${secret}.${pin}.host:65536`],
    ['an address in another spelling', `qx1.${id}.${secret}.${pin}.127.1`],
    ['a new line at its end', `qx1.${id}.${secret}.${pin}.host\n`],
    ['no pin and another machine', `qx1.${id}.${secret}.dev.updates.example.org`],
    ['no pin and a name that only begins like ours', `qx1.${id}.${secret}.dev.localhost.example.org`],
  ])('is refused: %s', async (_why, text) => {
    expect(await refusal(() => readInvitation(text))).toBe('BAD_REQUEST');
  });

  test('without a pin leads to this machine only', () => {
    const text = writeInvitation({ id, secret, pin: null, host: '127.0.0.1:9000' });
    expect(readInvitation(text)).toEqual({ id, secret, pin: null, host: '127.0.0.1:9000' });
  });

  test.each(['Updates.example.org', 'a..b', '-a', '[::g]', '[::1', '1.2.3', '0x7f.1', '', 'a:b'])(
    'no server is called %j',
    (text) => {
      expect(isServerHost(text)).toBe(false);
    },
  );
});

describe('T41: the key of a host', () => {
  const spkiOf = (key: ReturnType<typeof generateKeyPairSync>['publicKey']): string =>
    (key as { export(options: object): Buffer }).export({ type: 'spki', format: 'der' }).toString('base64');

  test('is Ed25519 or P-256', () => {
    expect(readNodeKey(spkiOf(generateKeyPairSync('ed25519').publicKey)).kind).toBe('ed25519');
    expect(readNodeKey(spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey)).kind).toBe('p256');
  });

  const zero = `${Uint8Array.fromHex(`302a300506032b6570032100${'00'.repeat(32)}`).toBase64()}`;
  test.each<[string, () => string]>([
    ['RSA-1024', () => spkiOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey)],
    ['RSA-4096', () => spkiOf(generateKeyPairSync('rsa', { modulusLength: 4096 }).publicKey)],
    ['P-192', () => spkiOf(generateKeyPairSync('ec', { namedCurve: 'prime192v1' }).publicKey)],
    ['P-384', () => spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey)],
    ['X25519', () => spkiOf(generateKeyPairSync('x25519').publicKey)],
    ['Ed25519 of small order', () => zero],
    ['garbage', () => 'A'.repeat(60)],
    ['more than 4 KiB', () => 'A'.repeat(6000)],
    ['nothing', () => ''],
    ['base64 with a bit that means nothing', () => spkiOf(generateKeyPairSync('ed25519').publicKey).replace(/=$/, 'B')],
  ])('is not %s', async (_what, spki) => {
    expect(await refusal(() => readNodeKey(spki()))).toBe('KEY_UNSAFE');
  });
});
