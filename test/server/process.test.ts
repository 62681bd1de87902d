import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { artifactOf, sha256Of } from '../support/keys.ts';
import { signedBy, snapshot } from '../support/publishing.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';
import { curl, type RunningServer, runServer, startServer, TOKEN } from '../support/update-server.ts';
import { AUTHORIZED, openSite, type Site } from '../support/update-site.ts';

const MEBIBYTE = 1 << 20;

/** A site whose release is one image of this many bytes. */
async function siteWithImage(sizeBytes: number): Promise<Site> {
  const site = await openSite();
  const image = new Uint8Array(sizeBytes).fill(7);
  const full_image = { ...artifactOf('system.squashfs', image), requires_reboot: true };
  await writeFile(join(site.folder, 'system.squashfs'), image);
  await writeFile(join(site.folder, 'manifest.json'), await signedBy(site.keys.os, { components: [], full_image }));
  return site;
}

const imageFields = (site: Site) => [
  ...site.field('manifest', 'manifest.json'),
  ...site.field('full_image', 'system.squashfs'),
];
const restart = (site: Site): Promise<RunningServer> =>
  startServer({ RELEASE_DIR: join(site.folder, 'releases'), KEYRING: join(site.folder, 'keyring.json') });

/** Starts a publish that stops sending in the middle of the image. Resolves when the server has staged what was sent. */
async function publishHalf(site: Site): Promise<ReturnType<typeof request>> {
  const envelope = await readFile(join(site.folder, 'manifest.json'));
  const image = await readFile(join(site.folder, 'system.squashfs'));
  const head = (name: string) => `--b\r\nContent-Disposition: form-data; name="${name}"; filename="x"\r\n\r\n`;
  const upload = request(`${site.api}/quantix-os/publish`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'multipart/form-data; boundary=b' },
  });
  upload.on('error', () => undefined);
  upload.write(Buffer.concat([Buffer.from(head('manifest')), envelope, Buffer.from(`\r\n${head('full_image')}`)]));
  upload.write(image.subarray(0, image.length >> 1));
  const staged = async () =>
    Object.keys(await snapshot(join(site.folder, 'releases'))).some((name) => name.endsWith('.part'));
  await expect.poll(staged, { timeout: 10_000 }).toBe(true);
  return upload;
}

describe('killed in the middle of a publish', () => {
  test('nothing is visible, the next start clears up, and the same publish works', async () => {
    const site = await siteWithImage(4 * MEBIBYTE);
    await publishHalf(site);
    site.server.kill('SIGKILL');
    await site.server.ended;
    expect(Object.keys(await snapshot(join(site.folder, 'releases')))).toContain('.incoming');

    const { url } = await restart(site);
    expect((await curl(`${url}/api/v1/quantix-os/manifest`)).status).toBe(404);
    expect(Object.keys(await snapshot(join(site.folder, 'releases')))).toEqual(['.lock']);
    const again = await curl('-X', 'POST', `${url}/api/v1/quantix-os/publish`, ...AUTHORIZED, ...imageFields(site));
    expect(again.status).toBe(201);
    expect((await curl(`${url}/api/v1/quantix-os/releases/1.1.0/system.squashfs`)).body).toHaveLength(4 * MEBIBYTE);
  });

  test('a client that hangs up leaves nothing behind either', async () => {
    const site = await siteWithImage(4 * MEBIBYTE);
    const upload = await publishHalf(site);
    upload.destroy();
    const left = async () => Object.keys(await snapshot(join(site.folder, 'releases'))).sort();
    await expect.poll(left, { timeout: 10_000 }).toEqual(['.incoming', '.lock']);
    expect((await site.publish(...imageFields(site))).status).toBe(201);
  });
});

test('of publishes of one version at once, exactly one wins', async () => {
  const site = await openSite();
  await site.writeRelease();
  for (let i = 0; i < 6; i++) {
    await writeFile(
      join(site.folder, `manifest-${i}.json`),
      await signedBy(site.keys.os, { release_notes: `try ${i}` }),
    );
  }
  const tries = Array.from({ length: 6 }, (_, i) =>
    site.publish(...site.field('manifest', `manifest-${i}.json`), ...site.allFields().slice(2)),
  );
  const answers = await Promise.all(tries);
  expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409, 409]);
  const winner = answers.findIndex(({ status }) => status === 201);
  const served = JSON.parse((await curl(`${site.api}/quantix-os/manifest`)).text);
  expect(served.release_notes).toBe(`try ${winner}`);
});

test('memory does not grow with the size of an image that is published and downloaded', async () => {
  const site = await siteWithImage(192 * MEBIBYTE);
  const peakMiB = async () =>
    Number(/VmHWM:\s+([0-9]+)/.exec(await readFile(`/proc/${site.server.pid}/status`, 'utf8'))?.[1]) / 1024;
  await curl(`${site.server.url}/health`);
  const before = await peakMiB();
  expect((await site.publish(...imageFields(site))).status).toBe(201);
  const target = join(site.folder, 'downloaded');
  await execa('curl', ['-sS', '-o', target, `${site.api}/quantix-os/releases/1.1.0/system.squashfs`]);
  expect(sha256Of(await readFile(target))).toBe(sha256Of(await readFile(join(site.folder, 'system.squashfs'))));
  expect((await peakMiB()) - before).toBeLessThan(96);
});

describe('start and stop', () => {
  test.each([
    ['T36: no token', {}, 2, 'INSECURE_TOKEN'],
    ['T36: the token that everybody knows', { PUBLISH_TOKEN: 'dev-token' }, 2, 'INSECURE_TOKEN'],
    ['T36: a token of 31 bytes', { PUBLISH_TOKEN: TOKEN.slice(0, 31) }, 2, 'INSECURE_TOKEN'],
    ['T36: whatever NODE_ENV says', { PUBLISH_TOKEN: 'changeme', NODE_ENV: 'development' }, 2, 'INSECURE_TOKEN'],
    ['a keyring that is not there', { PUBLISH_TOKEN: TOKEN, KEYRING: '/nonexistent/keyring' }, 2, 'CONFIG_INVALID'],
    ['an address of another machine', { PUBLISH_TOKEN: TOKEN, LISTEN_ADDR: '192.0.2.1:9' }, 2, 'CONFIG_INVALID'],
  ])('%s: the server ends before it listens', async (_why, environment, exitCode, code) => {
    const RELEASE_DIR = join(await temporaryFolder(), 'releases');
    const ended = await runServer({ LISTEN_ADDR: '127.0.0.1:0', RELEASE_DIR, ...environment });
    expect(ended.exitCode).toBe(exitCode);
    expect(ended.stderr).toContain(`[${code}]`);
    expect(ended.all).not.toContain('"msg":"listening"');
    expect(ended.all).not.toMatch(/changeme|\bat [\w.]+ \(/);
  });

  test('a second server on the same folder is refused, and takes over once the first is gone', async () => {
    const site = await openSite();
    const second = { RELEASE_DIR: join(site.folder, 'releases'), LISTEN_ADDR: '127.0.0.1:0', PUBLISH_TOKEN: TOKEN };
    const refused = await runServer(second);
    expect([refused.exitCode, refused.stderr]).toEqual([6, expect.stringContaining('[BUSY]')]);
    site.server.kill('SIGTERM');
    expect((await site.server.ended).exitCode).toBe(0);
    await startServer(second);
  });

  test('told to stop, it lets a download finish', async () => {
    const site = await siteWithImage(32 * MEBIBYTE);
    await site.publish(...imageFields(site));
    const slow = curl('--limit-rate', '16M', `${site.api}/quantix-os/releases/1.1.0/system.squashfs`);
    await new Promise((resolve) => setTimeout(resolve, 500));
    site.server.kill('SIGTERM');
    expect((await slow).body).toHaveLength(32 * MEBIBYTE);
    expect((await site.server.ended).exitCode).toBe(0);
  });

  test('--help names the environment and shows examples', async () => {
    const { exitCode, stdout } = await runServer({}, ['--help']);
    expect(exitCode).toBe(0);
    for (const word of ['RELEASE_DIR', 'PUBLISH_TOKEN', 'SIGNING_PRIVATE_KEY', '--dev', 'curl http'])
      expect(stdout).toContain(word);
  });
});

requires({ commands: ['openssl'] })('with a certificate', () => {
  test('the server speaks TLS only', async () => {
    const folder = await temporaryFolder();
    const [TLS_CERT, TLS_KEY] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    await execa('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ed25519',
      '-nodes',
      '-days',
      '1',
      ...subject,
      '-keyout',
      TLS_KEY,
      '-out',
      TLS_CERT,
    ]);
    expect(new X509Certificate(await readFile(TLS_CERT)).subject).toContain('localhost');
    const server = await startServer({ RELEASE_DIR: join(folder, 'releases'), TLS_CERT, TLS_KEY });
    expect((await curl('--cacert', TLS_CERT, `${server.url}/health`)).status).toBe(200);
    await expect(curl(server.url.replace('https', 'http'))).rejects.toThrow();
    await writeFile(TLS_KEY, 'no key');
    const broken = await runServer({
      RELEASE_DIR: join(folder, 'other'),
      PUBLISH_TOKEN: TOKEN,
      LISTEN_ADDR: '127.0.0.1:0',
      TLS_CERT,
      TLS_KEY,
    });
    expect([broken.exitCode, broken.stderr]).toEqual([2, expect.stringContaining('[CONFIG_INVALID]')]);
  });
});
