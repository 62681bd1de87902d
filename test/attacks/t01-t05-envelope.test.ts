import { beforeAll, describe, expect, test } from 'vitest';
import { check } from '../../src/agent/check.ts';
import type { TrustedKey } from '../../src/format/keyring.ts';
import { agentBench } from '../support/agent-bench.ts';
import { memoryOf } from '../support/agent-machine.ts';
import type { Release } from '../support/agent-releases.ts';
import { codeOf, enveloped, expectUntrusted, signedAnyway } from '../support/attacks.ts';
import { textOf } from '../support/documents.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { keyringOf, testKey, trusted } from '../support/keys.ts';
import { requires } from '../support/requires.ts';

/** Envelopes of a hostile server, all the way into the agent of a host. */

const base64 = (length: number, fill = 0) => new Uint8Array(length).fill(fill).toBase64();

requires({ commands: IMAGE_COMMANDS })('an envelope', () => {
  const bench = agentBench();
  const made: { release?: Release } = {};
  beforeAll(async () => {
    made.release = await bench.release('2.0.0', { components: { 'qx-console': '2.0.0' } });
  });
  const release = (): Release => made.release as Release;
  const signature = (): string => (JSON.parse(textOf(release().envelope)) as { signature: string }).signature;
  const attacked = async (fields: { readonly [name: string]: unknown }, code: string) => {
    const host = await bench.host([enveloped(release(), fields)]);
    await expectUntrusted(host, code);
    // What nobody vouches for is not even remembered.
    expect(await memoryOf(host.root)).toBeNull();
  };

  test('that nobody touched is taken: the attacks below are refused for what they changed', async () => {
    const host = await bench.host([release()]);
    expect(await codeOf(() => check(host, {}, { known: null }))).toBeNull();
  });

  describe('T01 signature', () => {
    test.each<[string, (good: string) => unknown, string]>([
      ['absent', () => undefined, 'SIGNATURE_MALFORMED'],
      ['null', () => null, 'SIGNATURE_MALFORMED'],
      ['empty', () => '', 'SIGNATURE_MALFORMED'],
      ['64 zero bytes', () => base64(64), 'SIGNATURE_INVALID'],
      ['63 bytes', () => base64(63, 7), 'SIGNATURE_MALFORMED'],
      ['65 bytes', () => base64(65, 7), 'SIGNATURE_MALFORMED'],
      ['base64url', () => `${'_-'.repeat(43)}==`, 'SIGNATURE_MALFORMED'],
      ['junk after the padding', (good) => `${good}AAAA`, 'SIGNATURE_MALFORMED'],
      ['two joined', (good) => good + good, 'SIGNATURE_MALFORMED'],
    ])('T01 a signature that is %s', async (_name, forge, code) => {
      await attacked({ signature: forge(signature()) }, code);
    });

    test('T01 neither signature nor envelope: a bare manifest', async () => {
      const bare = new TextEncoder().encode(JSON.stringify(release().manifest));
      await expectUntrusted(await bench.host([{ ...release(), envelope: bare }]), 'UNSIGNED');
    });
  });

  test.each([['none'], ['ED25519'], ['rs256'], [undefined], [['ed25519']]])(
    'T02 algorithm %j, before any key is looked up',
    async (algorithm) => attacked({ algorithm, key_id: 'unknown', signature: 'nonsense' }, 'ALGORITHM_UNSUPPORTED'),
  );

  describe('T03 key_id', () => {
    test.each([
      ['unknown', 'KEY_UNKNOWN'],
      ['', 'ENVELOPE_MALFORMED'],
      ['../x', 'ENVELOPE_MALFORMED'],
      ['__proto__', 'ENVELOPE_MALFORMED'],
      ['constructor', 'KEY_UNKNOWN'],
    ])('T03 key_id %j', async (key_id, code) => attacked({ key_id }, code));

    test.each<[string, Partial<TrustedKey>]>([
      ["T03 another product's key", { products: ['quantix-vdc'] }],
      [
        "T11 another channel's key: a signature counts for what its key was given, and for nothing else",
        { channels: ['stable'] },
      ],
    ])('%s', async (_name, rights) => {
      const host = await bench.host([release()]);
      const keyring = keyringOf([trusted(await testKey('release'), rights)]);
      await expectUntrusted({ ...host, keyring }, 'KEY_NOT_ALLOWED');
    });

    test.each([
      ['before it was retired', '2020-01-01T00:00:00Z'],
      ['after it was retired', '2026-11-09T00:00:00Z'],
      ['in the future', '2099-01-01T00:00:00Z'],
    ])('T03 a retired key, its signature dated %s', async (_name, signed_at) => {
      const host = await bench.host([enveloped(release(), { signed_at })]);
      const keyring = keyringOf([trusted(await testKey('release'), { retired: true })]);
      await expectUntrusted({ ...host, keyring }, 'KEY_RETIRED');
    });
  });

  test("T04 key A's signature under the name of key B, which is trusted too", async () => {
    const [a, b] = [await testKey('release'), await testKey('key-b')];
    const host = await bench.host([enveloped(release(), { key_id: b.keyId })]);
    await expectUntrusted({ ...host, keyring: keyringOf([trusted(a), trusted(b)]) }, 'SIGNATURE_INVALID');
  });

  describe('T05 a key that the envelope brings along', () => {
    test.each(['public_key', 'jwk', 'x5c'])('T05 as %s: refused, with and without it', async (field) => {
      const stranger = { ...release(), envelope: await signedAnyway(release().manifest, 'stranger') };
      const { publicKey } = await testKey('stranger');
      await expectUntrusted(await bench.host([enveloped(stranger, { [field]: publicKey })]), 'ENVELOPE_MALFORMED');
      await expectUntrusted(await bench.host([stranger]), 'KEY_UNKNOWN');
    });
  });
});
