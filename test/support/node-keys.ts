import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readInvitation } from '../../src/format/invitation.ts';
import { enrolMessage, renewMessage } from '../../src/format/node-key.ts';

/** The key of a host, as its agent has one. */
export interface HostKey {
  readonly spki: string;
  /** PEM. */
  readonly key: string;
  /** The body that enrols by a join string. */
  enrolBy(join: string): { invite: string; spki: string; proof: string };
  renewAs(id: string): { spki: string; proof: string };
}

export function hostKey(kind: 'ed25519' | 'p256' = 'ed25519'): HostKey {
  const { publicKey, privateKey } =
    kind === 'ed25519' ? generateKeyPairSync(kind) : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = spkiOf(publicKey);
  const proofOf = (message: Uint8Array): string =>
    sign(kind === 'ed25519' ? null : 'sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString(
      'base64',
    );
  return {
    spki,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    enrolBy: (join) => {
      const { id, secret } = readInvitation(join);
      return { invite: `${id}.${secret}`, spki, proof: proofOf(enrolMessage(id, spki)) };
    },
    renewAs: (id) => ({ spki, proof: proofOf(renewMessage(id, spki)) }),
  };
}

export const spkiOf = (key: KeyObject): string => key.export({ type: 'spki', format: 'der' }).toString('base64');
