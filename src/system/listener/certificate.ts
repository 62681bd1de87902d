import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Caller, ClientCertificate } from '../../ports/serving.ts';

/** What the peer of a connection proved by a client certificate, looked at anew for each request on it. */

type Proof = Pick<Caller, 'certificate' | 'certificateFault' | 'earlyCertificate'>;

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** Of the certificate, or of its authority. */
const NOT_YET = 'CERT_NOT_YET_VALID';

export function peerCertificate(socket: Socket, nowMs: number): Proof {
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return { certificate: null };
  const { authorized, authorizationError } = socket as TLSSocket;
  const isEarly = authorized ? certificate.validFromDate.getTime() > nowMs : String(authorizationError) === NOT_YET;
  const fault = faultOf(certificate, nowMs);
  if (authorized && !isEarly && fault === null) return { certificate: told(certificate) };
  // OpenSSL has judged chain, time and purpose once, in the handshake; of purposes it takes none for any.
  if (!isEarly)
    return { certificate: null, certificateFault: authorized ? String(fault) : reasonOf(authorizationError) };
  const certificateFault = `it is valid from ${certificate.validFromDate.toISOString()} on, and the clock here has ${new Date(nowMs).toISOString()}`;
  return { certificate: null, certificateFault, ...(fault === null ? { earlyCertificate: told(certificate) } : {}) };
}

const reasonOf = (error: unknown): string => String(error ?? 'it was not verified');

const told = ({ fingerprint256, subject, subjectAltName }: X509Certificate): ClientCertificate => ({
  fingerprint256,
  subject,
  alternativeNames: subjectAltName ?? null,
});

function faultOf(certificate: X509Certificate, nowMs: number): string | null {
  if (certificate.ca) return 'it is one of an authority';
  if (!certificate.keyUsage?.includes(CLIENT_AUTH)) return 'it is not made out for clients';
  return nowMs <= certificate.validToDate.getTime() ? null : 'it is not in its time any more';
}
