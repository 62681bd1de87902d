// First: @peculiar/x509 asks for the metadata that this one lets decorators keep, and does not import it itself.
import 'reflect-metadata';
import { createPrivateKey, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { dirname } from 'node:path';
import * as x509 from '@peculiar/x509';
import { checkClock } from '../core/dates.ts';
import { asQxError, QxError } from '../errors.ts';
import { readNodeKey } from '../format/node-key.ts';
import { type IssuedCertificate, type NodeAuthority, type NodeSubject, nodeUri } from '../ports/authority.ts';
import type { Files, Log } from '../ports.ts';
import { makeDirectories } from './durable.ts';
import { createFile } from './operator-files.ts';

/** The authority of the fleet in two files of the server. It signs nothing but client certificates of hosts. */

export interface AuthorityPaths {
  readonly cert: string;
  readonly key: string;
}

interface Machine {
  readonly files: Files;
  readonly log: Log;
  /** 0: not known. */
  readonly buildDateMs: number;
}

const DAY_MS = 86_400_000;
const AUTHORITY_LIFETIME_MS = 3653 * DAY_MS;
const NODE_LIFETIME_MS = 30 * DAY_MS;
/** The clock of a host may be behind ours; and one of ours that was ahead would make certificates that nobody takes yet. */
const BACKDATED_MS = 30 * DAY_MS;
const SERIAL_BYTES = 16;
const MAX_FILE_BYTES = 1 << 20;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const KEY_ALGORITHMS = { ed25519: { name: 'Ed25519' }, p256: { name: 'ECDSA', namedCurve: 'P-256' } } as const;

/** From its files, which are made where there are none yet. @throws QxError CONFIG_INVALID | REFUSED_OVERWRITE */
export async function openAuthority(machine: Machine, paths: AuthorityPaths, nowMs: number): Promise<NodeAuthority> {
  const { files, log } = machine;
  const kept = await keptPair(files, paths);
  const { cert, key } = kept ?? (await makePair(machine, paths, nowMs));
  const certificate = usable(paths, cert, key, nowMs);
  if (((await files.info(paths.key))?.mode ?? 0) & 0o077) log.warn('node_ca_key_readable', { path: paths.key });
  return { certificate: pem(certificate.toString()), issue: issuer(certificate, key, machine.buildDateMs) };
}

async function keptPair(files: Files, paths: AuthorityPaths): Promise<{ cert: Uint8Array; key: Uint8Array } | null> {
  const cert = await files.read(paths.cert, MAX_FILE_BYTES);
  const key = await files.read(paths.key, MAX_FILE_BYTES);
  if (cert === null && key === null) return null;
  if (cert !== null && key !== null) return { cert, key };
  // Made anew, it would lock every host out that has a certificate of the old one.
  const [there, missing] = cert === null ? [paths.key, paths.cert] : [paths.cert, paths.key];
  throw new QxError('CONFIG_INVALID', `of the authority of the nodes there is ${there}, but no ${missing}`, {
    next: `put ${missing} back from a backup; without one, remove ${there} and both are made anew; where hosts were enrolled, with qx-update-server --new-authority REASON`,
  });
}

async function makePair({ log, buildDateMs }: Machine, paths: AuthorityPaths, nowMs: number) {
  checkClock(nowMs, buildDateMs);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serial(),
      name: [{ CN: ['Quantix nodes'] }],
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + AUTHORITY_LIFETIME_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as Crypto),
      ],
    },
    webcrypto as Crypto,
  );
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(pem(text));
  const pair = { cert: bytes(certificate.toString('pem')), key: bytes(x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')) };
  await writePair(paths, pair);
  log.info('node_ca_made', { path: paths.cert, fingerprint: new X509Certificate(pair.cert).fingerprint256 });
  return pair;
}

/** The key first: a certificate without its key could never be made good again. */
async function writePair(paths: AuthorityPaths, { cert, key }: { cert: Uint8Array; key: Uint8Array }): Promise<void> {
  await makeDirectories(dirname(paths.key), 0o700);
  await makeDirectories(dirname(paths.cert), 0o700);
  await createFile(paths.key, key, 0o600);
  await createFile(paths.cert, cert, 0o644);
}

/** @throws QxError CONFIG_INVALID */
function usable(paths: AuthorityPaths, cert: Uint8Array, key: Uint8Array, nowMs: number): X509Certificate {
  try {
    const certificate = new X509Certificate(cert);
    if (!certificate.ca) throw new Error('the certificate is none of an authority');
    if (!certificate.checkPrivateKey(createPrivateKey(Buffer.from(key)))) {
      throw new Error('the key does not belong to the certificate');
    }
    if (certificate.publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
      throw new Error('its key is not P-256');
    if (certificate.validToDate.getTime() <= nowMs) throw new Error('its certificate has run out');
    return certificate;
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `${paths.cert} and ${paths.key} cannot be used: ${asQxError(error).message}`, {
      next: 'put both back from a backup; without one, remove them and see qx-update-server --new-authority in its --help: every host enrols anew then',
      cause: error,
    });
  }
}

function issuer(authority: X509Certificate, keyPem: Uint8Array, buildDateMs: number): NodeAuthority['issue'] {
  const issuing = new x509.X509Certificate(authority.raw);
  const der = new Uint8Array(createPrivateKey(Buffer.from(keyPem)).export({ type: 'pkcs8', format: 'der' }));
  return async ({ id, name, spki }: NodeSubject, nowMs: number): Promise<IssuedCertificate> => {
    checkClock(nowMs, buildDateMs);
    const publicKey = await importKey(spki);
    const signingKey = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
    const authorityKey = await issuing.publicKey.export(webcrypto as Crypto);
    // Whole seconds are all that a certificate can say, and it must not hold longer than we believe.
    const notAfterMs = Math.floor((nowMs + NODE_LIFETIME_MS) / 1000) * 1000;
    const issued = await x509.X509CertificateGenerator.create(
      {
        serialNumber: serial(),
        subject: [{ CN: [name] }],
        issuer: issuing.subjectName,
        notBefore: new Date(nowMs - BACKDATED_MS),
        notAfter: new Date(notAfterMs),
        signingAlgorithm: ALGORITHM,
        publicKey,
        signingKey,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
          new x509.SubjectAlternativeNameExtension([{ type: 'url', value: nodeUri(id) }]),
          await x509.AuthorityKeyIdentifierExtension.create(authorityKey, false, webcrypto as Crypto),
        ],
      },
      webcrypto as Crypto,
    );
    const certificate = pem(issued.toString('pem'));
    return { certificate, fingerprint: new X509Certificate(certificate).fingerprint256, notAfterMs };
  };
}

/** @throws QxError KEY_UNSAFE also for what only looks like a key, such as a point that is not on the curve */
async function importKey(spki: string): Promise<webcrypto.CryptoKey> {
  const key = readNodeKey(spki);
  try {
    return await webcrypto.subtle.importKey('spki', new Uint8Array(key.spki), KEY_ALGORITHMS[key.kind], true, [
      'verify',
    ]);
  } catch (error) {
    throw new QxError('KEY_UNSAFE', 'the public key is no point of its curve', { cause: error });
  }
}

/** 128 random bits; the encoder puts a zero before those that would read as negative. */
const serial = (): string => randomBytes(SERIAL_BYTES).toString('hex');

const pem = (text: string): string => `${text.trim()}\n`;
