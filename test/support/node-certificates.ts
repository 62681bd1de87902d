import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import type { Certificate } from './certificates.ts';
import type { FleetBench } from './fleet.ts';

/** What the authority of the nodes would never issue, made by its own key. */

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const STRANGER = '11111111-1111-4111-8111-111111111111';

interface Profile {
  /** Of the host that it claims to be. */
  readonly id?: string;
  readonly names?: readonly string[];
  readonly usages?: readonly (keyof typeof x509.ExtendedKeyUsage)[];
  readonly isAuthority?: boolean;
  /** Instead of the authority. */
  readonly issuer?: Certificate;
  /** The server keeps it as one of that host. */
  readonly isKnown?: boolean;
}

export async function certificateBy(fleet: FleetBench, profile: Profile): Promise<Certificate> {
  const { id = STRANGER, names = [`urn:qx:node:${id}`], usages = ['clientAuth'] } = profile;
  const crypto = webcrypto as Crypto;
  const issuer = profile.issuer ?? {
    cert: fleet.authority.certificate,
    key: await readFile(join(fleet.folder, 'keys/node-ca.key'), 'utf8'),
  };
  const [der] = x509.PemConverter.decode(issuer.key);
  const signingKey = await webcrypto.subtle.importKey('pkcs8', der as ArrayBuffer, ALGORITHM, false, ['sign']);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const issued = await x509.X509CertificateGenerator.create(
    {
      subject: 'CN=qhci-01',
      issuer: new x509.X509Certificate(issuer.cert).subject,
      publicKey: keys.publicKey,
      signingKey,
      signingAlgorithm: ALGORITHM,
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + 86_400_000),
      extensions: [
        new x509.BasicConstraintsExtension(profile.isAuthority ?? false, undefined, true),
        new x509.ExtendedKeyUsageExtension(usages.map((usage) => x509.ExtendedKeyUsage[usage])),
        ...(names.length === 0
          ? []
          : [new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'url' as const, value })))]),
      ],
    },
    crypto,
  );
  const cert = `${issued.toString('pem').trim()}\n`;
  if (profile.isKnown === true) await keep(fleet, id, cert);
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { cert, key };
}

async function keep({ store }: FleetBench, node_id: string, certificate: string): Promise<void> {
  const { fingerprint256: fingerprint, publicKey } = new X509Certificate(certificate);
  const spki = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  const row = { fingerprint, node_id, spki, certificate, not_after_ms: Date.now() + 86_400_000 };
  await store.db.insertInto('node_certificate').values(row).execute();
}
