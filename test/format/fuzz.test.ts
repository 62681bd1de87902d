import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeDocument } from '../../src/format/document.ts';
import { openEnvelope } from '../../src/format/envelope.ts';
import { EMPTY_MEMORY, readJournal, readMemory } from '../../src/format/journal.ts';
import { parseStrict } from '../../src/format/json.ts';
import { readKeyring } from '../../src/format/keyring.ts';
import { readManifest } from '../../src/format/manifest.ts';
import { bytesOf, refusal } from '../support/documents.ts';
import { sampleJournal } from '../support/journal.ts';
import { signedManifest } from '../support/keys.ts';

/**
 * Whatever bytes come, a reader answers in bounded time, with a document or with a refusal of its own kind: a TypeError, a
 * stack overflow or a hang would be a way for a stranger to stop the agent.
 */

const { envelope, keyring, manifestBytes } = await signedManifest({ extra: { sequence: 3, compatible: ['x86-64'] } });

interface Reader {
  readonly read: (bytes: Uint8Array) => unknown;
  readonly valid: Uint8Array;
  readonly refusals: RegExp;
}

const readers: Readonly<Record<string, Reader>> = {
  parseStrict: { read: (bytes) => parseStrict(bytes), valid: manifestBytes, refusals: /^SyntaxError$/ },
  openEnvelope: {
    read: (bytes) => openEnvelope(bytes, keyring),
    valid: envelope,
    refusals: /^(ENVELOPE|SIGNATURE|KEY|MANIFEST|VERSION|ALGORITHM|THRESHOLD)_[A-Z_]+$|^UNSIGNED$/,
  },
  readManifest: {
    read: (bytes) => readManifest(parseStrict(bytes).value),
    valid: manifestBytes,
    refusals: /^SyntaxError$|^MANIFEST_(INVALID|CRITICAL_UNKNOWN)$|^VERSION_INVALID$/,
  },
  readKeyring: {
    read: (bytes) => readKeyring(bytes),
    valid: bytesOf(JSON.stringify({ ...keyring, thresholds: { 'quantix-os/dev': 1 } })),
    refusals: /^KEYRING_INVALID$|^KEY_UNSAFE$/,
  },
  readMemory: {
    read: (bytes) => readMemory(bytes),
    valid: writeDocument({ ...EMPTY_MEMORY, high_water: { 'quantix-os/dev/1': 3 }, floor: '1.0.0' }),
    refusals: /^STATE_(INVALID|TOO_NEW)$/,
  },
  readJournal: {
    read: (bytes) => readJournal(bytes),
    valid: writeDocument(sampleJournal),
    refusals: /^STATE_(INVALID|TOO_NEW)$/,
  },
};

const TOKENS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  ':',
  ',',
  '\\',
  '\\u',
  '-',
  '0',
  '1e9',
  'null',
  'true',
  '"__proto__":',
  '\0',
  '\ufeff',
  '\u0301',
];
const json = fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.stringify(value));

type Edit = (text: string) => string;
const at = (position: number, text: string) => Math.floor(position * text.length);

/** A cut, a doubled piece, a token put in, a value replaced: documents that are nearly right. */
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(40)).map(
    ([position, length]): Edit =>
      (text) =>
        text.slice(0, at(position, text)) + text.slice(at(position, text) + length),
  ),
  fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(40)).map(
    ([position, length]): Edit =>
      (text) =>
        text.slice(0, at(position, text) + length) + text.slice(at(position, text)),
  ),
  fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(...TOKENS)).map(
    ([position, token]): Edit =>
      (text) =>
        text.slice(0, at(position, text)) + token + text.slice(at(position, text)),
  ),
  fc.tuple(fc.nat(60), json).map(
    ([nth, value]): Edit =>
      (text) => {
        const members = [...text.matchAll(/:(?:"[^"]*"|\d+|null|true|false)/g)];
        const member = members[nth % Math.max(members.length, 1)];
        return member === undefined
          ? text
          : `${text.slice(0, member.index)}:${value}${text.slice(member.index + member[0].length)}`;
      },
  ),
);

const mutated = (valid: Uint8Array): fc.Arbitrary<Uint8Array> =>
  fc.array(edit, { minLength: 1, maxLength: 3 }).map((edits) => {
    const text = new TextDecoder().decode(valid);
    return bytesOf(edits.reduce((changed, change) => change(changed), text));
  });

const flipped = (valid: Uint8Array): fc.Arbitrary<Uint8Array> =>
  fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((changes) => {
    const bytes = valid.slice();
    for (const [index, byte] of changes) bytes[index] = byte;
    return bytes;
  });

describe.each(Object.entries(readers))('%s', (_name, { read, valid, refusals }) => {
  const holds = async (bytes: Uint8Array) => {
    const startMs = performance.now();
    const code = await refusal(() => read(bytes));
    expect(performance.now() - startMs).toBeLessThan(1_000);
    if (code !== null) expect(code).toMatch(refusals);
  };

  test('any bytes', () => fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), holds)));
  test('any JSON', () => fc.assert(fc.asyncProperty(json.map(bytesOf), holds)));
  test('a valid document after an accident', () =>
    fc.assert(fc.asyncProperty(mutated(valid), holds), { numRuns: 400 }));
  test('a valid document with other bytes in it', () => fc.assert(fc.asyncProperty(flipped(valid), holds)));
});

test('a string of a million characters where a short one belongs is refused quickly', async () => {
  const long = ['1'.repeat(900_000), '/a'.repeat(400_000), `1.1.1-${'1a.'.repeat(300_000)}`, 'a'.repeat(900_000)];
  for (const text of long) {
    for (const field of ['version', 'release_date', 'product', 'min_version']) {
      const manifest = { ...(JSON.parse(new TextDecoder().decode(manifestBytes)) as object), [field]: text };
      const startMs = performance.now();
      expect(await refusal(() => readManifest(parseStrict(bytesOf(JSON.stringify(manifest))).value))).toBe(
        'MANIFEST_INVALID',
      );
      expect(performance.now() - startMs).toBeLessThan(1_000);
    }
  }
});
