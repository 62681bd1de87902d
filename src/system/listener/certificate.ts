import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Caller } from '../../ports/serving.ts';

/** What the peer of a connection proved by a client certificate, looked at anew for each request on it. */

type Proof = Pick<Caller, 'certificate' | 'certificateFault'>;

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

export function peerCertificate(socket: Socket, nowMs: number): Proof {
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return { certificate: null };
  const certificateFault = faultOf(socket as TLSSocket, certificate, nowMs);
  if (certificateFault !== null) return { certificate: null, certificateFault };
  const { fingerprint256, subject, subjectAltName: alternativeNames = null } = certificate;
  return { certificate: { fingerprint256, subject, alternativeNames } };
}

/** OpenSSL has judged chain, time and purpose once, in the handshake; of purposes it takes none for any. */
function faultOf(socket: TLSSocket, certificate: X509Certificate, nowMs: number): string | null {
  if (!socket.authorized) return String(socket.authorizationError ?? 'it was not verified');
  if (certificate.ca) return 'it is one of an authority';
  if (!certificate.keyUsage?.includes(CLIENT_AUTH)) return 'it is not made out for clients';
  if (!isInTime(certificate, nowMs)) return 'it is not in its time any more';
  return null;
}

const isInTime = ({ validFromDate, validToDate }: X509Certificate, nowMs: number): boolean =>
  validFromDate.getTime() <= nowMs && nowMs <= validToDate.getTime();
