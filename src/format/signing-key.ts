import { getPublicKeyAsync } from '@noble/ed25519';
import { Type } from 'typebox';
import { type Signer, seedSigner } from './envelope.ts';
import { readJson } from './json.ts';
import { KEY_ID_PATTERN } from './keyring.ts';
import { checkShape } from './schema.ts';

/** The file that holds a private signing key. `qx-release` makes it, to be kept away from hosts and servers. */
const SigningKeyFile = Type.Object(
  {
    format: Type.Literal(1),
    key_id: Type.String({ pattern: KEY_ID_PATTERN }),
    private_key: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$', description: 'Ed25519 seed, base64 of 32 bytes' }),
  },
  { additionalProperties: false },
);

export const writeSigningKey = (keyId: string, seed: Uint8Array): Uint8Array =>
  new TextEncoder().encode(`${JSON.stringify({ format: 1, key_id: keyId, private_key: seed.toBase64() }, null, 2)}\n`);

/** @throws QxError KEYRING_INVALID, whose message never holds any of the key */
export function readSigningKey(bytes: Uint8Array): Signer {
  const { keyId, seed } = readKeyFile(bytes);
  return seedSigner(keyId, seed);
}

/** @throws QxError KEYRING_INVALID, whose message never holds any of the key */
export function readKeyFile(bytes: Uint8Array): { readonly keyId: string; readonly seed: Uint8Array } {
  const { value } = readJson(bytes, 'signing key', 'KEYRING_INVALID');
  const file = checkShape(SigningKeyFile, value, 'signing key', 'KEYRING_INVALID');
  return { keyId: file.key_id, seed: Uint8Array.fromBase64(file.private_key) };
}

export const publicKeyOf = async (seed: Uint8Array): Promise<string> => (await getPublicKeyAsync(seed)).toBase64();
