import { signAsync } from '@noble/ed25519';
import { type Static, Type } from 'typebox';
import { QxError } from '../errors.ts';
import {
  type Claim,
  encodeDetached,
  MAX_CLAIMS,
  malformedSignature,
  openDetached,
  type SignedManifest,
  signedBytes,
} from './detached.ts';
import { type Json, readJson } from './json.ts';
import { KEY_ID_PATTERN, type Keyring } from './keyring.ts';
import { readManifest } from './manifest.ts';
import { checkShape, INSTANT_PATTERN } from './schema.ts';

/**
 * The signed envelope around a manifest. Signed are the RFC 8785 bytes of `manifest`; every other field only helps to find
 * the key, and decides nothing.
 */

/** What an envelope is called wherever it lies in a folder with its artifacts. */
export const ENVELOPE_NAME = 'manifest.signed.json';

const Signature = Type.Object(
  { key_id: Type.String({ pattern: KEY_ID_PATTERN }), signature: Type.String() },
  { additionalProperties: false },
);

export const Envelope = Type.Object(
  {
    manifest: Type.Object({}),
    signature: Type.String({ description: 'Ed25519 over the RFC 8785 form of manifest, base64' }),
    key_id: Type.String({ pattern: KEY_ID_PATTERN }),
    signed_at: Type.String({ pattern: INSTANT_PATTERN, maxLength: 40 }),
    algorithm: Type.Literal('ed25519'),
    signatures: Type.Optional(
      Type.Array(Signature, {
        maxItems: MAX_CLAIMS - 1,
        description: 'further signatures, where a threshold asks for more than one',
      }),
    ),
  },
  { additionalProperties: false },
);
export type Envelope = Static<typeof Envelope>;

export interface OpenedEnvelope extends SignedManifest {
  /** The bytes of `manifest` exactly as they stand in the envelope. */
  readonly manifestBytes: Uint8Array;
}

/**
 * Takes the envelope apart and trusts nobody: what comes out is for `openDetached`. The first of all checks are here: shape,
 * algorithm, form of the signatures.
 * @throws QxError ENVELOPE_MALFORMED | UNSIGNED | ALGORITHM_UNSUPPORTED | SIGNATURE_MALFORMED | MANIFEST_INVALID
 */
export const detach = (bytes: Uint8Array): Uint8Array => detachedFrom(readEnvelope(bytes).envelope);

function detachedFrom({ manifest, key_id, signature, signatures = [] }: Envelope): Uint8Array {
  return encodeDetached([{ key_id, signature }, ...signatures], signedBytes(manifest as Json));
}

/** Both in one, for who has nobody to keep the bytes away from. @throws QxError with the code of the check that failed */
export async function openEnvelope(bytes: Uint8Array, keyring: Keyring): Promise<OpenedEnvelope> {
  const { envelope, manifestBytes } = readEnvelope(bytes);
  return { ...(await openDetached(detachedFrom(envelope), keyring)), manifestBytes };
}

function readEnvelope(bytes: Uint8Array): { envelope: Envelope; manifestBytes: Uint8Array } {
  const { value, members } = readJson(bytes, 'envelope', 'ENVELOPE_MALFORMED');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new QxError('ENVELOPE_MALFORMED', 'envelope: not a JSON object');
  }
  const fields = value as { readonly [key: string]: Json };
  if (fields.signature === undefined && fields.manifest === undefined) {
    throw new QxError('UNSIGNED', 'this is no signed manifest: it has neither manifest nor signature', {
      next: 'sign it: qx-release sign --key FILE manifest.json',
    });
  }
  if (fields.algorithm !== 'ed25519') {
    throw new QxError('ALGORITHM_UNSUPPORTED', 'envelope: algorithm must be exactly "ed25519"');
  }
  if (typeof fields.signature !== 'string') throw malformedSignature();
  const envelope = checkShape(Envelope, value, 'envelope', 'ENVELOPE_MALFORMED');
  const [start, end] = members.get('manifest') ?? [0, 0];
  return { envelope, manifestBytes: bytes.subarray(start, end) };
}

export interface Signer {
  readonly keyId: string;
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** A signer from the 32 byte seed of an Ed25519 key. */
export const seedSigner = (keyId: string, seed: Uint8Array): Signer => ({
  keyId,
  sign: (message) => signAsync(message, seed),
});

/**
 * The envelope around exactly these manifest bytes, so that what is served later is what was signed.
 * @throws QxError ENVELOPE_MALFORMED | MANIFEST_INVALID when the manifest would be refused by every reader
 */
export async function sealEnvelope(
  manifestBytes: Uint8Array,
  signers: readonly Signer[],
  signedAt: string,
): Promise<Uint8Array> {
  const { value } = readJson(manifestBytes, 'manifest', 'ENVELOPE_MALFORMED');
  readManifest(value);
  const message = signedBytes(value);
  const signatures: Claim[] = [];
  for (const signer of signers) {
    signatures.push({ key_id: signer.keyId, signature: (await signer.sign(message)).toBase64() });
  }
  const [first, ...others] = signatures;
  if (first === undefined) throw new QxError('USAGE', 'at least one key has to sign');
  const rest = JSON.stringify({
    signature: first.signature,
    key_id: first.key_id,
    signed_at: signedAt,
    algorithm: 'ed25519',
    ...(others.length === 0 ? {} : { signatures: others }),
  });
  const text = new TextDecoder().decode(manifestBytes).trim();
  return new TextEncoder().encode(`{"manifest":${text},${rest.slice(1)}\n`);
}
