import { X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import { expect, test } from 'vitest';
import { hostFiles } from '../../src/system/files.ts';
import { givenCertificate, OWN_CERTIFICATE, ownCertificate } from '../../src/system/tls.ts';
import { refusal } from '../support/documents.ts';
import { recordedLog } from '../support/fakes.ts';
import { temporaryFolder } from '../support/temp.ts';

const NOW_MS = Date.parse('2026-11-10T12:00:00Z');
const DAY_MS = 86_400_000;

test('a host signs for the names and addresses that it has, and keeps what it signed until the last month', async () => {
  const machine = { files: hostFiles(await temporaryFolder()), log: recordedLog() };
  const first = await ownCertificate(machine, NOW_MS);
  const { subjectAltName, validFromDate, validToDate, ca } = new X509Certificate(first.cert);
  for (const name of [`DNS:${hostname()}`, 'DNS:localhost', 'IP Address:127.0.0.1'])
    expect(subjectAltName).toContain(name);
  expect(ca).toBe(false);
  expect((validToDate.getTime() - validFromDate.getTime()) / DAY_MS).toBe(825);
  expect([first.isFor('localhost'), first.isFor('evil.example')]).toEqual([true, false]);

  expect((await ownCertificate(machine, NOW_MS + 760 * DAY_MS)).cert).toEqual(first.cert);
  const renewed = await ownCertificate(machine, NOW_MS + 800 * DAY_MS);
  expect(renewed.cert).not.toEqual(first.cert);
  expect((await machine.files.info(OWN_CERTIFICATE.key))?.mode).toBe(0o600);
});

test('a key and a certificate that do not belong together are made anew, and the operator is told', async () => {
  const machine = { files: hostFiles(await temporaryFolder()), log: recordedLog() };
  const first = await ownCertificate(machine, NOW_MS);
  await machine.files.remove(OWN_CERTIFICATE.cert);
  await ownCertificate(machine, NOW_MS);
  await machine.files.writeAtomic(OWN_CERTIFICATE.cert, first.cert);
  const paths = { cert: OWN_CERTIFICATE.cert, key: OWN_CERTIFICATE.key };
  expect(await refusal(() => givenCertificate(machine.files, paths))).toBe('CONFIG_INVALID');
  const healed = await ownCertificate(machine, NOW_MS);
  expect(healed.cert).not.toEqual(first.cert);
  expect((await givenCertificate(machine.files, paths)).cert).toEqual(healed.cert);
});

test('a host whose disk takes nothing still gets a certificate', async () => {
  const files = hostFiles(await temporaryFolder());
  const log = recordedLog();
  const full = { ...files, writeAtomic: () => Promise.reject(new Error('no space')) };
  expect((await ownCertificate({ files: full, log }, NOW_MS)).isFor('localhost')).toBe(true);
  expect(JSON.stringify(log.lines)).toContain('certificate_not_kept');
});

test('where certificate and key are both missing, it is always the certificate that is named', async () => {
  const files = hostFiles(await temporaryFolder());
  const read: typeof files.read = async (path, maxBytes) => {
    if (path.endsWith('.crt')) await new Promise((resolve) => setTimeout(resolve, 50));
    return files.read(path, maxBytes);
  };
  const given = givenCertificate({ ...files, read }, { cert: '/tls.crt', key: '/tls.key' });
  await expect(given).rejects.toThrow('updates.tls_cert: there is no file /tls.crt');
});
