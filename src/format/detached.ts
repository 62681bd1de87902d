import { verifyAsync } from '@noble/ed25519';
import { sha256 } from '@noble/hashes/sha2.js';
import canonicalize from 'canonicalize';
import { QxError } from '../errors.ts';
import { type Json, readJson } from './json.ts';
import { KEY_ID_PATTERN, type Keyring, publicKeyBytes, type TrustedKey, thresholdFor } from './keyring.ts';
import { type Manifest, readManifest } from './manifest.ts';

const SIGN_AGAIN = 'it has to be signed again with a key that may: qx-release sign';

/**
 * What is left of an envelope without the envelope: who is said to have signed, and the bytes that were signed, in a form that
 * takes no parser. One process reads what the network sent and may be taken over by it; another, which may do everything,
 * gets this, and reads the manifest only once its signatures are checked.
 */

/** Who is said to have signed; only the signature proves it. */
export interface Claim {
  readonly key_id: string;
  /** base64 of 64 bytes */
  readonly signature: string;
}

/** A manifest whose signatures were checked; nothing else may construct one. */
export interface SignedManifest {
  readonly manifest: Manifest;
  readonly keyIds: readonly string[];
  /** Names the release: SHA-256 (hex) of the manifest without what re-issuing or promoting it changes. */
  readonly digest: string;
}

export const MAX_CLAIMS = 17;
const SIGNATURE_PATTERN = '[A-Za-z0-9+/]{86}==';
const SIGNATURE = new RegExp(`^${SIGNATURE_PATTERN}$`);
const CLAIM = new RegExp(`^(${KEY_ID_PATTERN.slice(1, -1)}) (${SIGNATURE_PATTERN})$`);
/** Where the claims end at the latest: a key id of 64 characters, a space, a signature and a line break each. */
const MAX_CLAIMS_BYTES = MAX_CLAIMS * (64 + 1 + 88 + 1) + 1;
const END_OF_CLAIMS = '\n\n';

/** A line `key-id signature` for each claim, an empty line, and the signed bytes. @throws QxError SIGNATURE_MALFORMED */
export function encodeDetached(claims: readonly Claim[], message: Uint8Array): Uint8Array {
  if (!claims.every(({ signature }) => SIGNATURE.test(signature))) throw malformedSignature();
  const lines = claims.map(({ key_id, signature }) => `${key_id} ${signature}`);
  const head = new TextEncoder().encode(lines.join('\n') + END_OF_CLAIMS);
  const bytes = new Uint8Array(head.length + message.length);
  bytes.set(head);
  bytes.set(message, head.length);
  return bytes;
}

export const malformedSignature = () =>
  new QxError('SIGNATURE_MALFORMED', 'envelope: a signature is base64 of exactly 64 bytes');

function readDetached(bytes: Uint8Array): { claims: readonly Claim[]; message: Uint8Array } {
  const head = String.fromCharCode(...bytes.subarray(0, MAX_CLAIMS_BYTES));
  const end = head.indexOf(END_OF_CLAIMS);
  const claims = head
    .slice(0, Math.max(end, 0))
    .split('\n')
    .map((line) => CLAIM.exec(line));
  return {
    claims: claims.map((claim) => {
      if (claim === null) throw new QxError('ENVELOPE_MALFORMED', 'what is left of the envelope is not in order');
      const [, key_id = '', signature = ''] = claim;
      return { key_id, signature };
    }),
    message: bytes.subarray(end + END_OF_CLAIMS.length),
  };
}

/**
 * Checks the signatures against the keyring, and only then reads what they sign. The order of the checks is the order of the
 * design: key by its id, signature, manifest, threshold. @throws QxError with the code of the check that failed
 */
export async function openDetached(bytes: Uint8Array, keyring: Keyring): Promise<SignedManifest> {
  const { claims, message } = readDetached(bytes);
  const signers: TrustedKey[] = [];
  for (const claim of claims) signers.push(await signerOf(claim, message, keyring));
  const { value } = readJson(message, 'manifest', 'ENVELOPE_MALFORMED');
  const manifest = readManifest(value);
  checkSigners(signers, manifest, keyring);
  return { manifest, keyIds: signers.map((key) => key.key_id), digest: releaseDigest(value) };
}

/** The key is the one that `key_id` names: trying all keys would let one key's signature pass under another's name. */
async function signerOf(claim: Claim, message: Uint8Array, keyring: Keyring): Promise<TrustedKey> {
  const key = keyring.keys.find((k) => k.key_id === claim.key_id);
  if (key === undefined) {
    throw new QxError('KEY_UNKNOWN', `signed by key ${JSON.stringify(claim.key_id)}, which is not trusted here`, {
      next: 'compare `qx-update --version` (the keyring that was built in) with the key that signed the release',
    });
  }
  if (key.retired === true)
    throw new QxError('KEY_RETIRED', `key ${key.key_id} was retired and signs nothing any more`, { next: SIGN_AGAIN });
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
    throw new QxError('KEY_NOT_ALLOWED', `key ${signers[0]?.key_id} may not sign ${product} for channel ${channel}`, {
      next: SIGN_AGAIN,
    });
  }
  const distinct = new Set(allowed.map((key) => key.key_id)).size;
  const needed = thresholdFor(keyring, product, channel);
  if (distinct >= needed) return;
  throw new QxError(
    'THRESHOLD_NOT_MET',
    `${product}/${channel} needs ${needed} signatures, this release has ${distinct}`,
    { next: 'the others sign the same file: qx-release sign FILE --key THEIRS' },
  );
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
