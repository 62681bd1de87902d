import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { chmod, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { openAuthority } from '../../src/system/authority.ts';
import { hostFiles } from '../../src/system/files.ts';
import { refusal } from '../support/documents.ts';
import { recordedLog } from '../support/fakes.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const ID = '7b1f0d1e-6a55-4a3a-9d0e-1f6f3a0a9c11';
const DAY_MS = 86_400_000;

async function place() {
  const folder = await temporaryFolder();
  const paths = { cert: join(folder, 'keys/node-ca.crt'), key: join(folder, 'keys/node-ca.key') };
  const log = recordedLog();
  return {
    folder,
    paths,
    log,
    open: (nowMs = Date.now(), buildDateMs = 0) =>
      openAuthority({ files: hostFiles(''), log, buildDateMs }, paths, nowMs),
  };
}

const newSpki = (type: 'ed25519' | 'p256' = 'ed25519'): string => {
  const { publicKey } =
    type === 'ed25519' ? generateKeyPairSync(type) : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
};

describe('the authority of the nodes', () => {
  test('is made once, its key for the owner alone, and is the same at the next start', async () => {
    const { paths, open, log } = await place();
    const first = await open();
    expect((await stat(paths.key)).mode & 0o777).toBe(0o600);
    const key = await readFile(paths.key);
    expect((await open()).certificate).toBe(first.certificate);
    expect(await readFile(paths.key)).toEqual(key);
    expect(log.lines.map(({ event }) => event)).toEqual(['node_ca_made']);
    expect(new X509Certificate(first.certificate).ca).toBe(true);
  });

  test.each(['cert', 'key'] as const)(
    'of which only the %s is there is refused, and what is there stays',
    async (left) => {
      const { paths, open } = await place();
      await open();
      const kept = await readFile(paths[left]);
      await rm(paths[left === 'cert' ? 'key' : 'cert']);
      await expect(open()).rejects.toMatchObject({ code: 'CONFIG_INVALID', next: expect.stringContaining('backup') });
      expect(await readFile(paths[left])).toEqual(kept);
    },
  );

  test.each<[string, 'cert' | 'key', string]>([
    ['a key that was only begun', 'key', '-----BEGIN PRIVATE KEY-----\n'],
    ['an empty certificate', 'cert', ''],
  ])('is refused with %s, which stays', async (_what, which, text) => {
    const { paths, open } = await place();
    await open();
    await writeFile(paths[which], text);
    expect(await refusal(() => open())).toBe('CONFIG_INVALID');
    expect(await readFile(paths[which], 'utf8')).toBe(text);
  });

  test('is refused when key and certificate are of two authorities, or it has run out', async () => {
    const [ours, theirs] = [await place(), await place()];
    await ours.open();
    await theirs.open();
    expect(await refusal(() => ours.open(Date.now() + 3660 * DAY_MS))).toBe('CONFIG_INVALID');
    await writeFile(ours.paths.key, await readFile(theirs.paths.key));
    expect(await refusal(() => ours.open())).toBe('CONFIG_INVALID');
  });

  test('that others could read is told of', async () => {
    const { paths, open, log } = await place();
    await open();
    await chmod(paths.key, 0o644);
    await open();
    expect(log.lines.map(({ event }) => event)).toContain('node_ca_key_readable');
  });

  test('two servers that start at once do not overwrite each other', async () => {
    const { open } = await place();
    const opened = await Promise.allSettled([open(), open(), open()]);
    const made = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value.certificate] : []));
    expect(new Set(made).size).toBe(1);
    expect((await open()).certificate).toBe(made[0]);
  });
});

describe('T41: a certificate', () => {
  test('holds for 30 days, and from 30 days ago: a clock that was ahead makes none that nobody takes yet', async () => {
    const { open } = await place();
    const nowMs = Date.now();
    const issued = await (await open()).issue({ id: ID, name: 'qhci-01', spki: newSpki() }, nowMs);
    const certificate = new X509Certificate(issued.certificate);
    expect(certificate.fingerprint256).toBe(issued.fingerprint);
    expect(certificate.validToDate.getTime()).toBe(issued.notAfterMs);
    expect(nowMs - certificate.validFromDate.getTime()).toBeGreaterThanOrEqual(30 * DAY_MS);
    expect(Math.abs(issued.notAfterMs - nowMs - 30 * DAY_MS)).toBeLessThan(1001);
  });

  test.each([
    ['before this program was built', -2 * DAY_MS],
    ['a decade after that', 3661 * DAY_MS],
  ])('is not made by a clock that shows a date from %s, and nor is an authority', async (_what, awayMs) => {
    const builtMs = Date.now();
    const { open } = await place();
    const code = async (work: () => Promise<unknown>) => refusal(work);
    expect(await code(() => open(builtMs + awayMs, builtMs))).toBe('CLOCK_WRONG');
    const issuing = await open(builtMs, builtMs);
    const subject = { id: ID, name: 'qhci-01', spki: newSpki() };
    expect(await code(() => issuing.issue(subject, builtMs + awayMs))).toBe('CLOCK_WRONG');
    // Behind, or ahead, by days: it may as well have been put right.
    await issuing.issue(subject, builtMs + 20 * DAY_MS);
  });

  test('is for the key that was given, and each has a serial number of its own', async () => {
    const issuing = await (await place()).open();
    const spki = newSpki('p256');
    const issued = await Promise.all(
      Array.from({ length: 20 }, () => issuing.issue({ id: ID, name: 'qhci-01', spki }, Date.now())),
    );
    const certificates = issued.map(({ certificate }) => new X509Certificate(certificate));
    for (const { publicKey } of certificates) {
      expect(publicKey.export({ type: 'spki', format: 'der' }).toString('base64')).toBe(spki);
    }
    expect(new Set(certificates.map(({ serialNumber }) => serialNumber)).size).toBe(20);
    for (const { serialNumber } of certificates) expect(serialNumber).toMatch(/^[0-9A-F]{26,32}$/);
  });

  const offTheCurve = Uint8Array.fromHex(
    `3059301306072a8648ce3d020106082a8648ce3d03010703420004${'11'.repeat(64)}`,
  ).toBase64();
  test.each<[string, string]>([
    [
      'RSA',
      generateKeyPairSync('rsa', { modulusLength: 2048 })
        .publicKey.export({ type: 'spki', format: 'der' })
        .toString('base64'),
    ],
    ['a point off the curve', offTheCurve],
    ['garbage', 'QUJD'.repeat(30)],
  ])('is not made for %s', async (_what, spki) => {
    const issuing = await (await place()).open();
    expect(await refusal(() => issuing.issue({ id: ID, name: 'qhci-01', spki }, Date.now()))).toBe('KEY_UNSAFE');
  });

  requires({ commands: ['openssl'] })('as openssl reads it', () => {
    test.each(['ed25519', 'p256'] as const)('%s: no authority, for clients only, with the one name', async (type) => {
      const { folder, open } = await place();
      const issuing = await open();
      const { certificate } = await issuing.issue({ id: ID, name: 'qhci-01', spki: newSpki(type) }, Date.now());
      const file = join(folder, 'node.crt');
      await writeFile(file, certificate);
      const { stdout } = await execa('openssl', ['x509', '-in', file, '-noout', '-text']);
      expect(stdout).toMatch(/X509v3 Basic Constraints: critical\s+CA:FALSE/);
      expect(stdout).toMatch(/X509v3 Key Usage: critical\s+Digital Signature\n/);
      expect(stdout).toMatch(/X509v3 Extended Key Usage: *\n\s+TLS Web Client Authentication\n/);
      expect(stdout).toMatch(new RegExp(`X509v3 Subject Alternative Name: *\\n\\s+URI:urn:qx:node:${ID}\\n`));
      expect(stdout).toMatch(/Subject: CN ?= ?qhci-01\n/);
      expect(stdout).not.toMatch(/Serial Number:\s+\(?-|Negative/i);
      const ca = join(folder, 'keys/node-ca.crt');
      expect((await execa('openssl', ['verify', '-purpose', 'sslclient', '-CAfile', ca, file])).stdout).toContain('OK');
      const asServer = execa('openssl', ['verify', '-purpose', 'sslserver', '-CAfile', ca, file]);
      await expect(asServer).rejects.toThrow(/purpose/);
      expect((await execa('openssl', ['x509', '-in', ca, '-noout', '-text'])).stdout).toMatch(
        /critical\s+CA:TRUE, pathlen:0/,
      );
    });
  });
});
