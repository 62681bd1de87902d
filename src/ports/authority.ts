/** Whoever makes the certificates by which hosts of the fleet are known to the server. */

export interface NodeSubject {
  /** UUID of the server's choice. */
  readonly id: string;
  readonly name: string;
  /** Its public key, DER in base64. */
  readonly spki: string;
}

export interface IssuedCertificate {
  /** PEM. */
  readonly certificate: string;
  /** As `ClientCertificate` spells it. */
  readonly fingerprint: string;
  readonly notAfterMs: number;
}

export interface NodeAuthority {
  /** Its own certificate, PEM. */
  readonly certificate: string;
  /** For clients alone; nothing in it but the key is of the host's choice. @throws QxError KEY_UNSAFE */
  issue(subject: NodeSubject, nowMs: number): Promise<IssuedCertificate>;
}

/** The one name of a host in its certificate. */
export const nodeUri = (id: string): string => `urn:qx:node:${id}`;
