import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { QxError } from '../../errors.ts';
import { type NodeKey, readNodeKey } from '../../format/node-key.ts';

/** That whoever sends a public key has its private half: it signed this very message. @throws QxError KEY_UNSAFE | SIGNATURE_INVALID */
export function checkProof(spki: string, message: Uint8Array, proof: string): void {
  const key = readNodeKey(spki);
  const publicKey = opened(key);
  const signature = Buffer.from(proof, 'base64');
  const isGood =
    key.kind === 'ed25519'
      ? verify(null, message, publicKey, signature)
      : verify('sha256', message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
  if (isGood) return;
  throw new QxError('SIGNATURE_INVALID', 'the proof is no signature by this key over this request');
}

function opened({ spki }: NodeKey): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch (error) {
    throw new QxError('KEY_UNSAFE', 'the public key is no point of its curve', { cause: error });
  }
}
