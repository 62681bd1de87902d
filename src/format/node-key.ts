import { QxError } from '../errors.ts';
import { publicKeyBytes } from './keyring.ts';

/**
 * The public key under which a host is known, and the bytes that it signs to prove that it has the private half. Each purpose
 * has its own first line, so that a proof for one is never a proof for another.
 */

export type NodeKeyKind = 'ed25519' | 'p256';

export interface NodeKey {
  readonly kind: NodeKeyKind;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
}

/** As the wire carries it; both kinds fit, and whatever is longer is neither. */
export const SPKI_PATTERN = '^[A-Za-z0-9+/]{56,124}={0,2}$';
/** Base64 of 64 bytes: both kinds of signatures have as many. */
export const PROOF_PATTERN = '^[A-Za-z0-9+/]{86}==$';

/** A key of one kind differs from another of it in its last bytes only: what is compared whole needs no parser. */
const FORMS: readonly { readonly kind: NodeKeyKind; readonly head: Uint8Array; readonly sizeBytes: number }[] = [
  { kind: 'ed25519', head: Uint8Array.fromHex('302a300506032b6570032100'), sizeBytes: 44 },
  {
    kind: 'p256',
    head: Uint8Array.fromHex('3059301306072a8648ce3d020106082a8648ce3d03010703420004'),
    sizeBytes: 91,
  },
];

/** @throws QxError KEY_UNSAFE for everything but an Ed25519 or P-256 key in its one usual form */
export function readNodeKey(base64: string): NodeKey {
  const spki = decode(base64);
  const form = FORMS.find(({ head, sizeBytes }) => spki.length === sizeBytes && head.every((b, i) => spki[i] === b));
  // One key has one spelling: it is compared as text.
  if (form === undefined || spki.toBase64() !== base64) throw unsafe();
  if (form.kind === 'ed25519') publicKeyBytes(spki.subarray(form.head.length).toBase64());
  return { kind: form.kind, spki };
}

function decode(base64: string): Uint8Array {
  if (!new RegExp(SPKI_PATTERN).test(base64)) throw unsafe();
  try {
    return Uint8Array.fromBase64(base64, { lastChunkHandling: 'strict' });
  } catch (error) {
    throw new QxError('KEY_UNSAFE', 'the public key is no base64', { cause: error });
  }
}

const unsafe = () =>
  new QxError('KEY_UNSAFE', 'the key of a host has to be an Ed25519 or P-256 public key (SPKI, DER, base64)', {
    next: 'make a new key: openssl genpkey -algorithm ed25519',
  });

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** What is signed to enrol: with Ed25519, or ECDSA over SHA-256 as r and s of 32 bytes each (IEEE P1363). */
export const enrolMessage = (inviteId: string, spki: string): Uint8Array<ArrayBuffer> =>
  encode(`qx-enroll/1\n${inviteId}\n${spki}`);

/** What is signed by the fresh key to renew the certificate of a host; `id` is its UUID. */
export const renewMessage = (id: string, spki: string): Uint8Array<ArrayBuffer> => encode(`qx-renew/1\n${id}\n${spki}`);
