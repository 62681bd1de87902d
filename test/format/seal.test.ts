import { describe, expect, test } from 'vitest';
import { signedBytes } from '../../src/format/detached.ts';
import { openEnvelope, sealEnvelope, seedSigner } from '../../src/format/envelope.ts';
import type { Json } from '../../src/format/json.ts';
import { bytesOf, refusal, textOf } from '../support/documents.ts';
import { keyringOf, manifestOf, signedManifest, testKey, trusted } from '../support/keys.ts';

const keyA = await testKey('key-a');

// Key, signature and digest were computed by OpenSSL too, with the same result.
describe('golden vector', () => {
  const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
  const publicKey = 'A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=';
  const text =
    '{"product":"quantix-os","version":"1.0.0","channel":"dev","release_date":"2026-01-01T00:00:00Z","update_type":"component","components":[{"name":"qx-node","version":"1.0.0","artifact":"qx-node.tar.zst","sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"install_path":"/data/bin/qx-node"}]}';

  test('a fixed seed and a fixed manifest give these canonical bytes and this signature', async () => {
    expect(textOf(signedBytes(JSON.parse(text) as Json))).toBe(
      '{"channel":"dev","components":[{"artifact":"qx-node.tar.zst","install_path":"/data/bin/qx-node","name":"qx-node","sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"version":"1.0.0"}],"product":"quantix-os","release_date":"2026-01-01T00:00:00Z","update_type":"component","version":"1.0.0"}',
    );
    const sealed = await sealEnvelope(bytesOf(text), [seedSigner('golden', seed)], '2026-01-02T00:00:00Z');
    expect(textOf(sealed)).toBe(
      `{"manifest":${text},"signature":"g1aR80Xai2uGq025ZTz3GS0QMAGBCLgxZ47f9cfEZQ8PO83wSA+DmzqtizfMTJzQUw43gVqOVp0kk8nBVhqyDg==","key_id":"golden","signed_at":"2026-01-02T00:00:00Z","algorithm":"ed25519"}\n`,
    );
  });

  test('and the key of that seed accepts it', async () => {
    const sealed = await sealEnvelope(bytesOf(text), [seedSigner('golden', seed)], '2026-01-02T00:00:00Z');
    const keyring = keyringOf([{ ...trusted(keyA), key_id: 'golden', public_key: publicKey }]);
    const { digest, manifestBytes } = await openEnvelope(sealed, keyring);
    expect(textOf(manifestBytes)).toBe(text);
    expect(digest).toBe('52c44503ca7741a8bc7fe94e1c8c751dc76349ea57d0ab8bf2dac3f4d39b9bfe');
  });
});

describe('sealing', () => {
  test('refuses a manifest that every reader would refuse', async () => {
    const bytes = bytesOf(JSON.stringify({ ...manifestOf(), version: 'v1' }));
    expect(await refusal(() => sealEnvelope(bytes, [keyA.signer], '2026-01-01T00:00:00Z'))).toBe('MANIFEST_INVALID');
  });

  test('refuses a manifest that could be read in two ways', async () => {
    const bytes = bytesOf(JSON.stringify(manifestOf()).replace('{', '{"version":"0.0.1",'));
    expect(await refusal(() => sealEnvelope(bytes, [keyA.signer], '2026-01-01T00:00:00Z'))).toBe('ENVELOPE_MALFORMED');
  });

  test('refuses to seal without a key', async () => {
    const bytes = bytesOf(JSON.stringify(manifestOf()));
    expect(await refusal(() => sealEnvelope(bytes, [], '2026-01-01T00:00:00Z'))).toBe('USAGE');
  });

  test('keeps the bytes of the manifest as they were written', async () => {
    const pretty = JSON.stringify(manifestOf(), null, 2);
    const sealed = await sealEnvelope(bytesOf(`${pretty}\n`), [keyA.signer], '2026-01-01T00:00:00Z');
    const { manifestBytes } = await openEnvelope(sealed, keyringOf([trusted(keyA)]));
    expect(textOf(manifestBytes)).toBe(pretty);
  });

  test('a promotion and a refresh keep the name of the release, any other change does not', async () => {
    const digestOf = async (manifest: Parameters<typeof manifestOf>[0]) => {
      const { envelope, keyring } = await signedManifest({ manifest: manifest ?? {} });
      return (await openEnvelope(envelope, keyring)).digest;
    };
    const digest = await digestOf({ sequence: 1, expires_at: '2027-01-01T00:00:00Z' });
    expect(await digestOf({ sequence: 2, expires_at: '2028-01-01T00:00:00Z' })).toBe(digest);
    expect(await digestOf({ channel: 'stable' })).toBe(digest);
    expect(await digestOf({ release_notes: 'other' })).not.toBe(digest);
  });
});
