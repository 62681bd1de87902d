import { signAsync, verifyAsync } from '@noble/ed25519';
import { sha256 } from '@noble/hashes/sha2.js';
import canonicalize from 'canonicalize';
import { type Static, Type } from 'typebox';
import { QxError } from '../errors.ts';
import { type Json, readJson } from './json.ts';
import { KEY_ID_PATTERN, type Keyring, publicKeyBytes, type TrustedKey, thresholdFor } from './keyring.ts';
import { type Manifest, readManifest } from './manifest.ts';
import { checkShape, INSTANT_PATTERN } from './schema.ts';

/**
 * The signed envelope around a manifest. Signed are the RFC 8785 bytes of `manifest`; every other field only helps to find
 * the key, and decides nothing.
 */

/** What an envelope is called wherever it lies in a folder with its artifacts. */
export const ENVELOPE_NAME = 'manifest.signed.json';

const SIGNATURE = /^[A-Za-z0-9+/]{86}==$/;

const Signature = Type.Object({ key_id: Type.String(), signature: Type.String() }, { additionalProperties: false });

export const Envelope = Type.Object(
  {
    manifest: Type.Object({}),
    signature: Type.String({ description: 'Ed25519 over the RFC 8785 form of manifest, base64' }),
    key_id: Type.String({ pattern: KEY_ID_PATTERN }),
    signed_at: Type.String({ pattern: INSTANT_PATTERN, maxLength: 40 }),
    algorithm: Type.Literal('ed25519'),
    signatures: Type.Optional(
      Type.Array(Signature, {
        maxItems: 16,
        description: 'further signatures, where a threshold asks for more than one',
      }),
    ),
  },
  { additionalProperties: false },
);
export type Envelope = Static<typeof Envelope>;
export type Signature = Static<typeof Signature>;

/** A manifest whose signatures were checked; nothing else may construct one. */
export interface SignedManifest {
  readonly manifest: Manifest;
  /** The bytes of `manifest` exactly as they stand in the envelope. */
  readonly manifestBytes: Uint8Array;
  readonly keyIds: readonly string[];
  /** Names the release: SHA-256 (hex) of the manifest without what re-issuing or promoting it changes. */
  readonly digest: string;
}

/** Fields that change when the same artifacts are signed again. */
const REISSUED: ReadonlySet<string> = new Set(['channel', 'sequence', 'expires_at']);

function releaseDigest(manifest: Json): string {
  const kept = Object.entries(manifest as object).filter(([field]) => !REISSUED.has(field));
  return sha256(signedBytes(Object.fromEntries(kept))).toHex();
}

/** The bytes that are signed. @throws QxError MANIFEST_INVALID when the value has no canonical form */
export function signedBytes(manifest: Json): Uint8Array {
  const text = canonicalize(manifest);
  if (text === undefined) throw new QxError('MANIFEST_INVALID', 'manifest has no canonical form');
  return new TextEncoder().encode(text);
}

/**
 * Reads the envelope, checks the signatures against the keyring, and only then interprets the manifest.
 * The order of the checks is the order of the design: shape, algorithm, key by its id, signature, threshold, manifest.
 * @throws QxError with the code of the check that failed
 */
export async function openEnvelope(bytes: Uint8Array, keyring: Keyring): Promise<SignedManifest> {
  const { envelope, manifestBytes } = readEnvelope(bytes);
  const message = signedBytes(envelope.manifest as Json);
  const claims = [{ key_id: envelope.key_id, signature: envelope.signature }, ...(envelope.signatures ?? [])];
  const signers: TrustedKey[] = [];
  for (const claim of claims) signers.push(await signerOf(claim, message, keyring));
  const manifest = readManifest(envelope.manifest as Json);
  checkSigners(signers, manifest, keyring);
  return {
    manifest,
    manifestBytes,
    keyIds: signers.map((key) => key.key_id),
    digest: releaseDigest(envelope.manifest as Json),
  };
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

const malformedSignature = () =>
  new QxError('SIGNATURE_MALFORMED', 'envelope: a signature is base64 of exactly 64 bytes');

/** The key is the one that `key_id` names: trying all keys would let one key's signature pass under another's name. */
async function signerOf(claim: Signature, message: Uint8Array, keyring: Keyring): Promise<TrustedKey> {
  if (!SIGNATURE.test(claim.signature)) throw malformedSignature();
  const key = keyring.keys.find((k) => k.key_id === claim.key_id);
  if (key === undefined) {
    throw new QxError(
      'KEY_UNKNOWN',
      `signed by key ${JSON.stringify(claim.key_id.slice(0, 80))}, which is not trusted here`,
      {
        next: 'compare `qx-update --version` (the keyring that was built in) with the key that signed the release',
      },
    );
  }
  if (key.retired === true)
    throw new QxError('KEY_RETIRED', `key ${key.key_id} was retired and signs nothing any more`);
  if (!(await isSignedBy(key, claim.signature, message))) {
    throw new QxError('SIGNATURE_INVALID', `the signature by key ${key.key_id} does not fit this manifest`, {
      next: 'the manifest was changed after it was signed; publish it anew and tell whoever runs the server',
    });
  }
  return key;
}

async function isSignedBy(key: TrustedKey, base64: string, message: Uint8Array): Promise<boolean> {
  try {
    const signature = Uint8Array.fromBase64(base64, { lastChunkHandling: 'strict' });
    // zip215 would accept encodings that other verifiers refuse.
    return await verifyAsync(signature, message, publicKeyBytes(key.public_key), { zip215: false });
  } catch {
    return false;
  }
}

function checkSigners(signers: readonly TrustedKey[], { product, channel }: Manifest, keyring: Keyring): void {
  const allowed = signers.filter((key) => key.products.includes(product) && key.channels.includes(channel));
  if (allowed.length === 0) {
    throw new QxError('KEY_NOT_ALLOWED', `key ${signers[0]?.key_id} may not sign ${product} for channel ${channel}`);
  }
  const distinct = new Set(allowed.map((key) => key.key_id)).size;
  const needed = thresholdFor(keyring, product, channel);
  if (distinct >= needed) return;
  throw new QxError(
    'THRESHOLD_NOT_MET',
    `${product}/${channel} needs ${needed} signatures, this release has ${distinct}`,
  );
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
  const signatures: Signature[] = [];
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
