import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;

export interface Certificate {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends Certificate {
  /** A certificate for this DNS name or address, good for so many days from now on. */
  readonly issue: (host: string, days?: number) => Promise<Certificate>;
}

const pem = async (key: CryptoKey): Promise<string> =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');

const generateKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

const validity = (days: number) => ({
  notBefore: new Date(Date.now() - 2 * DAY_MS),
  notAfter: new Date(Date.now() + days * DAY_MS),
});

/** A certificate authority of its own, as an operator may have one. */
export async function authority(name: string): Promise<Authority> {
  x509.cryptoProvider.set(webcrypto as Crypto);
  const keys = await generateKeys();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: ALGORITHM,
    ...validity(30),
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
  });
  const issue = async (host: string, days = 30): Promise<Certificate> => {
    const own = await generateKeys();
    const type = /^[0-9.]+$/.test(host) ? 'ip' : 'dns';
    const issued = await x509.X509CertificateGenerator.create({
      subject: `CN=${host}`,
      issuer: root.subject,
      publicKey: own.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm: ALGORITHM,
      ...validity(days),
      extensions: [new x509.SubjectAlternativeNameExtension([{ type, value: host }])],
    });
    return { cert: issued.toString('pem'), key: await pem(own.privateKey) };
  };
  return { cert: root.toString('pem'), key: await pem(keys.privateKey), issue };
}
