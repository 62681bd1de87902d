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
  /** A certificate for whoever calls. */
  readonly client: (name: string, profile?: ClientProfile) => Promise<Certificate>;
}

export interface ClientProfile {
  /** Of the Extended Key Usage; for clients unless said. */
  readonly usages?: readonly (keyof typeof x509.ExtendedKeyUsage)[];
  readonly isAuthority?: boolean;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** Names beside the one in the subject. */
  readonly names?: boolean;
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
  const client = async (name: string, profile: ClientProfile = {}): Promise<Certificate> => {
    const own = await generateKeys();
    const issued = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: root.subject,
      publicKey: own.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm: ALGORITHM,
      notBefore: profile.notBefore ?? validity(1).notBefore,
      notAfter: profile.notAfter ?? validity(1).notAfter,
      extensions: [
        new x509.BasicConstraintsExtension(profile.isAuthority ?? false, undefined, true),
        new x509.ExtendedKeyUsageExtension(
          (profile.usages ?? ['clientAuth' as const]).map((usage) => x509.ExtendedKeyUsage[usage]),
        ),
        ...(profile.names === false ? [] : [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: name }])]),
      ],
    });
    return { cert: issued.toString('pem'), key: await pem(own.privateKey) };
  };
  return { cert: root.toString('pem'), key: await pem(keys.privateKey), issue, client };
}
