// First: @peculiar/x509 asks for the metadata that this one lets decorators keep, and does not import it itself.
import 'reflect-metadata';
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto';
import { hostname, networkInterfaces } from 'node:os';
import * as x509 from '@peculiar/x509';
import { asQxError, QxError } from '../errors.ts';
import type { Files, Log } from '../ports.ts';

/** The certificate under which a host answers on the network: the operator's, or one that the host signs for itself. */

export interface ServerCertificate {
  /** PEM. */
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** Whether it was made out to this DNS name. */
  readonly isFor: (name: string) => boolean;
}

export const OWN_CERTIFICATE = { cert: '/quantix/limiquantix/tls.crt', key: '/quantix/limiquantix/tls.key' } as const;

const DAY_MS = 86_400_000;
/** The longest that browsers accept of a certificate that was installed by hand. */
const LIFETIME_MS = 825 * DAY_MS;
const RENEW_BEFORE_MS = 30 * DAY_MS;
/** The clock of a browser may be behind ours, and ours may have been ahead when it was made. */
const BACKDATED_MS = 30 * DAY_MS;
const MAX_FILE_BYTES = 1 << 20;

interface Machine {
  readonly files: Files;
  readonly log: Log;
}

/** @throws QxError CONFIG_INVALID */
export async function givenCertificate(
  files: Files,
  paths: { readonly cert: string; readonly key: string },
): Promise<ServerCertificate> {
  // One after the other: where both are missing, it is always the same one that is named.
  const cert = await readNamed(files, 'tls_cert', paths.cert);
  const key = await readNamed(files, 'tls_key', paths.key);
  try {
    return usable(cert, key);
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `updates.tls_cert and tls_key cannot be used: ${asQxError(error).message}`, {
      cause: error,
    });
  }
}

/** The bundle that a setting names, PEM. @throws QxError CONFIG_INVALID */
export async function authorities(files: Files, setting: 'client_ca' | 'server_ca', path: string): Promise<Uint8Array> {
  const bundle = await readNamed(files, setting, path);
  const blocks = new TextDecoder().decode(bundle).match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g);
  // Node itself passes over what it cannot read, and the operator would look for the fault in the certificates of the callers.
  if (blocks?.every(isAuthority)) return bundle;
  throw new QxError('CONFIG_INVALID', `updates.${setting}: ${path} is no bundle of certificates of authorities`);
}

function isAuthority(pem: string): boolean {
  try {
    return new X509Certificate(pem).ca;
  } catch {
    return false;
  }
}

async function readNamed(files: Files, setting: string, path: string): Promise<Uint8Array> {
  const bytes = await files.read(path, MAX_FILE_BYTES);
  if (bytes === null) throw new QxError('CONFIG_INVALID', `updates.${setting}: there is no file ${path}`);
  return bytes;
}

/** The one from an earlier start while it is good for another month, else a new one. */
export async function ownCertificate(machine: Machine, nowMs: number): Promise<ServerCertificate> {
  const kept = await keptCertificate(machine, nowMs);
  if (kept !== null) return kept;
  const { cert, key } = await selfSigned(nowMs);
  try {
    await machine.files.makeDirectory('/quantix/limiquantix', 0o700);
    // Cut off in between, key and certificate do not fit together, and the next start makes both anew.
    await machine.files.writeAtomic(OWN_CERTIFICATE.key, key, 0o600);
    await machine.files.writeAtomic(OWN_CERTIFICATE.cert, cert, 0o644);
    machine.log.info('certificate_made', { path: OWN_CERTIFICATE.cert, fingerprint: fingerprintOf(cert) });
  } catch (error) {
    // A host whose /quantix is broken still has to be reachable, though under another certificate after each start.
    machine.log.warn('certificate_not_kept', { detail: asQxError(error).message });
  }
  return usable(cert, key);
}

const fingerprintOf = (cert: Uint8Array): string => new X509Certificate(cert).fingerprint256;

async function keptCertificate({ files, log }: Machine, nowMs: number): Promise<ServerCertificate | null> {
  try {
    const cert = await files.read(OWN_CERTIFICATE.cert, MAX_FILE_BYTES);
    const key = await files.read(OWN_CERTIFICATE.key, MAX_FILE_BYTES);
    if (cert === null || key === null) return null;
    const certificate = usable(cert, key);
    return new X509Certificate(cert).validToDate.getTime() - nowMs > RENEW_BEFORE_MS ? certificate : null;
  } catch (error) {
    log.warn('certificate_unusable', { path: OWN_CERTIFICATE.cert, detail: asQxError(error).message });
    return null;
  }
}

/** @throws Error when one of them cannot be read or they do not belong together */
function usable(cert: Uint8Array, key: Uint8Array): ServerCertificate {
  const certificate = new X509Certificate(cert);
  if (!certificate.checkPrivateKey(createPrivateKey(Buffer.from(key)))) {
    throw new Error('the key does not belong to the certificate');
  }
  return { cert, key, isFor: (name) => certificate.checkHost(name) !== undefined };
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

async function selfSigned(nowMs: number): Promise<{ cert: Uint8Array; key: Uint8Array }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: [{ CN: [hostname()] }],
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs - BACKDATED_MS + LIFETIME_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(subjectNames()),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    },
    webcrypto as Crypto,
  );
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const pem = (text: string): Uint8Array => new TextEncoder().encode(`${text.trim()}\n`);
  return { cert: pem(certificate.toString('pem')), key: pem(x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')) };
}

/** What somebody may type to reach this host. Link-local addresses need a zone, which no certificate can name. */
function subjectNames(): { type: 'dns' | 'ip'; value: string }[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap((of) => of ?? [])
    .map(({ address }) => address)
    .filter((address) => !address.startsWith('fe80:'));
  const names = new Set([hostname(), 'localhost']);
  const all = new Set(['127.0.0.1', '::1', ...addresses]);
  return [
    ...[...names].map((value) => ({ type: 'dns' as const, value })),
    ...[...all].map((value) => ({ type: 'ip' as const, value })),
  ];
}
