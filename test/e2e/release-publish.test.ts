import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import type { ReleaseTools } from '../../src/cli/release/tools.ts';
import { built } from '../support/built.ts';
import { makeImage } from '../support/images.ts';
import { document, type Ran, release } from '../support/release-tools.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';
import { startServer, TOKEN } from '../support/update-server.ts';

/** What a release engineer's machine and a server of two channels look like, made by the tool itself. */
async function desk() {
  const dir = await temporaryFolder();
  const at = (name: string): string => join(dir, name);
  const run = async (...args: string[]) => {
    const ran = await release(args, { env: { QX_KEYRING: at('keyring.json') } });
    expect(ran).toMatchObject({ exitCode: 0 });
    return ran;
  };
  for (const channel of ['dev', 'beta']) {
    await run('keygen', '--key-id', channel, '--channels', channel, '--out', dir, '--keyring', at('keyring.json'));
  }
  await mkdir(at('build'));
  await writeFile(at('qx-node'), 'a program of version 1.2.0', { mode: 0o755 });
  await copyFile((await makeImage(dir, 'first', { fillBytes: 3 << 20 })).path, at('build/system.squashfs'));
  await run('pack', at('qx-node'), '--out', at('build'));
  const component = `qx-node=${at('build/qx-node.tar.zst')}`;
  const contents = ['--component', component, '--image', at('build/system.squashfs'), '--expires-in', '30d'];
  await run('manifest', '--version', '1.2.0', '--channel', 'dev', ...contents, '--out', at('build/manifest.json'));
  await run('sign', at('build/manifest.json'), '--key', at('dev.private.json'));
  await mkdir(at('served'));
  return { at };
}

type Desk = Awaited<ReturnType<typeof desk>>;

async function serving({ at }: Desk) {
  const server = await startServer({ RELEASE_DIR: at('served'), KEYRING: at('keyring.json') });
  const env = { QX_KEYRING: at('keyring.json'), QX_SERVER: server.url, QX_TOKEN: TOKEN };
  const run = (args: readonly string[], changes: Partial<ReleaseTools> = {}) => release(args, { env, ...changes });
  const served = async (path: string) => {
    const answer = await fetch(`${server.url}/api/v1/quantix-os/${path}`);
    return { status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) };
  };
  return { server, env, run, served };
}

const latestIn = async (served: Awaited<ReturnType<typeof serving>>['served'], channel: string) =>
  JSON.parse((await served(`manifest/signed?channel=${channel}`)).bytes.toString());

/** All files below a folder with their content. */
async function tree(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(await Promise.all(files.sort().map(async (path) => [path, await readFile(path, 'latin1')] as const)));
}

const refused = (ran: Ran, code: string, exitCode: number) =>
  expect([document(ran).schema, document(ran).code, ran.exitCode]).toEqual(['qx-release.error/1', code, exitCode]);

requires({ commands: ['mksquashfs'] })('publish', () => {
  test('then promote, then refresh: the server ends up with exactly that', async () => {
    const made = await desk();
    const { at } = made;
    const { run, served } = await serving(made);

    const published = await run(['publish', at('build'), '--json']);
    expect(published).toMatchObject({ exitCode: 0 });
    expect(document(published)).toMatchObject({
      schema: 'qx-release.publish/1',
      status: 'published',
      product: 'quantix-os',
      version: '1.2.0',
      channel: 'dev',
      key_ids: ['dev'],
      artifacts: [{ artifact: 'qx-node.tar.zst' }, { artifact: 'system.squashfs' }],
    });
    const image = await served('releases/1.2.0/system.squashfs?channel=dev');
    expect(image.bytes.equals(await readFile(at('build/system.squashfs')))).toBe(true);
    const signed = await served('manifest/signed?channel=dev');
    expect(signed.bytes.equals(await readFile(at('build/manifest.signed.json')))).toBe(true);

    const key = ['--key', at('beta.private.json')];
    expect(await run(['promote', '1.2.0', '--to', 'beta', ...key])).toMatchObject({ exitCode: 0 });
    const [dev, beta] = [await latestIn(served, 'dev'), await latestIn(served, 'beta')];
    expect(beta).toMatchObject({ key_id: 'beta', manifest: { channel: 'beta' } });
    expect({ ...beta.manifest, channel: 'dev', sequence: dev.manifest.sequence }).toEqual(dev.manifest);
    const promoted = await served('releases/1.2.0/system.squashfs?channel=beta');
    expect(promoted.bytes.equals(image.bytes)).toBe(true);

    const refreshed = await run(['refresh', '1.2.0', '--channel', 'beta', '--expires-in', '90d', ...key, '--json']);
    const after = await latestIn(served, 'beta');
    expect(after.manifest).toMatchObject({
      sequence: document(refreshed).sequence,
      expires_at: document(refreshed).expires_at,
    });
    expect(after.manifest.sequence).toBeGreaterThan(beta.manifest.sequence);
    expect(Date.parse(after.manifest.expires_at)).toBeGreaterThan(Date.parse(beta.manifest.expires_at));
    expect(await latestIn(served, 'dev')).toEqual(dev);
  });

  test('twice changes nothing, and other bytes under the same version are refused', async () => {
    const made = await desk();
    const { at } = made;
    const { run } = await serving(made);
    expect(await run(['publish', at('build')])).toMatchObject({ exitCode: 0 });
    const before = await tree(at('served'));
    expect(await run(['publish', at('build')])).toMatchObject({ exitCode: 0 });
    expect(await tree(at('served'))).toEqual(before);
    await copyFile((await makeImage(at('.'), 'other')).path, at('build/system.squashfs'));
    const contents = ['--image', at('build/system.squashfs'), '--out', at('build/manifest.json')];
    await run(['manifest', '--version', '1.2.0', '--channel', 'dev', ...contents]);
    await run(['sign', at('build/manifest.json'), '--key', at('dev.private.json')]);
    refused(await run(['publish', at('build'), '--json']), 'REFUSED_OVERWRITE', 2);
    expect(await tree(at('served'))).toEqual(before);
  });

  test('the files may be named one by one', async () => {
    const made = await desk();
    const { at } = made;
    const { run } = await serving(made);
    const files = ['manifest.signed.json', 'qx-node.tar.zst', 'system.squashfs'].map((name) => at(`build/${name}`));
    expect(await run(['publish', ...files])).toMatchObject({ exitCode: 0 });
    refused(await run(['publish', ...files.slice(0, 2), '--json']), 'ARTIFACT_MISSING', 7);
  });

  test('a bundle that was carried to the site of the server', async () => {
    const made = await desk();
    const { at } = made;
    const { run, served } = await serving(made);
    expect(await run(['bundle', at('build'), '--out', at('carried.qxb')])).toMatchObject({ exitCode: 0 });
    const dry = await run(['publish', at('carried.qxb'), '--dry-run', '--json']);
    expect(document(dry)).toEqual(document(await run(['publish', at('build'), '--dry-run', '--json'])));
    refused(await run(['publish', at('carried.qxb'), '--channel', 'stable', '--json']), 'USAGE', 2);
    const published = document(await run(['publish', at('carried.qxb'), '--json']));
    expect(published).toMatchObject({ status: 'published', version: '1.2.0' });
    for (const name of ['qx-node.tar.zst', 'system.squashfs', 'manifest.signed.json']) {
      const { bytes } = await served(`releases/1.2.0/${name}?channel=dev`);
      expect(bytes.equals(await readFile(at(`build/${name}`)))).toBe(true);
    }
    const bytes = await readFile(at('carried.qxb'));
    await writeFile(at('carried.qxb'), bytes.fill(0x58, bytes.length - 4096, bytes.length - 4000));
    refused(await run(['publish', at('carried.qxb'), '--json']), 'HASH_MISMATCH', 7);
  });

  test('a dry run checks everything, needs no token and sends nothing', async () => {
    const made = await desk();
    const { at } = made;
    const { run, env } = await serving(made);
    const [built, servedBefore] = [await tree(at('build')), await tree(at('served'))];
    const dry = await run(['publish', at('build'), '--dry-run', '--json'], { env: { ...env, QX_TOKEN: '' } });
    expect(document(dry)).toMatchObject({ status: 'dry-run', version: '1.2.0', channel: 'dev' });
    expect(await tree(at('build'))).toEqual(built);
    expect(await tree(at('served'))).toEqual(servedBefore);
    await writeFile(at('build/qx-node.tar.zst'), 'x');
    refused(await run(['publish', at('build'), '--dry-run', '--json']), 'SIZE_MISMATCH', 7);
  });

  test('refuses to publish something else than was asked for', async () => {
    const made = await desk();
    const { run } = await serving(made);
    const publish = (...more: string[]) => run(['publish', made.at('build'), '--json', ...more]);
    refused(await publish('--channel', 'stable'), 'USAGE', 2);
    refused(await publish('--version', '1.2.1'), 'USAGE', 2);
    refused(await publish('--component', 'qx-node', 'host-ui'), 'USAGE', 2);
    expect(await publish('--channel', 'dev', '--version', '1.2.0', '--component', 'qx-node')).toMatchObject({
      exitCode: 0,
    });
  });

  test.each([
    ['no token', '', 'TOKEN_REQUIRED', 5],
    ['a wrong token', 'x'.repeat(40), 'TOKEN_REFUSED', 5],
  ])('with %s: nothing is published and no token is shown', async (_title, token, code, exitCode) => {
    const made = await desk();
    const { run, env, served, server } = await serving(made);
    const ran = await run(['publish', made.at('build'), '--json'], { env: { ...env, QX_TOKEN: token } });
    refused(ran, code, exitCode);
    expect((await served('manifest/signed?channel=dev')).status).toBe(404);
    if (token !== '') expect(ran.stdout + ran.stderr + server.output()).not.toContain(token);
  });

  test('as a program, over TLS, with a CA that only the operator knows', async () => {
    const made = await desk();
    const { at } = made;
    const subject = ['-subj', '/CN=updates', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
    const files = ['-keyout', at('tls.key'), '-out', at('tls.crt')];
    const kind = ['req', '-x509', '-nodes', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
    await execa('openssl', [...kind, ...subject, ...files]);
    const tls = { TLS_CERT: at('tls.crt'), TLS_KEY: at('tls.key') };
    const server = await startServer({ RELEASE_DIR: at('served'), KEYRING: at('keyring.json'), ...tls });
    const publish = (more: Record<string, string>) =>
      execa(built('qx-release'), ['publish', at('build'), '--server', server.url, '--json'], {
        env: { PATH: process.env.PATH ?? '', QX_KEYRING: at('keyring.json'), PUBLISH_TOKEN: TOKEN, ...more },
        extendEnv: false,
        reject: false,
      });
    const unknown = await publish({ NODE_TLS_REJECT_UNAUTHORIZED: '0' });
    expect(unknown).toMatchObject({ exitCode: 9 });
    expect(JSON.parse(unknown.stdout)).toMatchObject({ code: 'SERVER_UNREACHABLE' });
    const known = await publish({ NODE_EXTRA_CA_CERTS: at('tls.crt') });
    expect(known).toMatchObject({ exitCode: 0 });
    expect(JSON.parse(known.stdout)).toMatchObject({ status: 'published' });
  });

  test('a release that has expired', async () => {
    const made = await desk();
    const { run } = await serving(made);
    const later = { nowMs: () => Date.now() + 31 * 86_400_000, monotonicMs: () => 0, isSynchronised: async () => true };
    const ran = await run(['publish', made.at('build'), '--json'], { clock: { ...later, sleep: async () => {} } });
    refused(ran, 'EXPIRED', 7);
  });

  test('the token may lie in a file', async () => {
    const made = await desk();
    const { run, env } = await serving(made);
    await writeFile(made.at('token'), `${TOKEN}\n`, { mode: 0o600 });
    const args = ['publish', made.at('build'), '--token-file', made.at('token')];
    expect(await run(args, { env: { ...env, QX_TOKEN: 'wrong' } })).toMatchObject({ exitCode: 0 });
  });

  test('what the server’s keyring does not trust is refused by the server itself', async () => {
    const made = await desk();
    const { at } = made;
    const { run, env } = await serving(made);
    const stranger = ['--key-id', 'stranger', '--out', at('.'), '--keyring', at('other.json')];
    await release(['keygen', ...stranger]);
    await release(['sign', at('build/manifest.json'), '--key', at('stranger.private.json')]);
    const ran = await run(['publish', at('build'), '--json'], { env: { ...env, QX_KEYRING: at('other.json') } });
    refused(ran, 'KEY_UNKNOWN', 7);
    expect(document(ran).detail).toContain('127.0.0.1');
  });

  test('reports its progress, and only on stderr', async () => {
    const made = await desk();
    const { run } = await serving(made);
    const ran = await run(['publish', made.at('build'), '--json']);
    const lines = ran.stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.at(-1)).toMatchObject({ schema: 'qx-release.progress/1', label: 'publish', percent: 100 });
    expect(ran.stdout.trimEnd().split('\n')).toHaveLength(1);
  });

  test('tries again when the server comes back, and gives up with its own exit code', async () => {
    const made = await desk();
    const { run, env, server } = await serving(made);
    const sleeps: number[] = [];
    const clock = { nowMs: Date.now, monotonicMs: () => 0, isSynchronised: async () => true };
    const sleep = async (ms: number) => void sleeps.push(ms);
    const gone = { ...env, QX_SERVER: 'http://127.0.0.1:1' };
    refused(
      await run(['publish', made.at('build'), '--json'], { env: gone, clock: { ...clock, sleep } }),
      'SERVER_UNREACHABLE',
      9,
    );
    expect(sleeps).toEqual([1000, 4000]);
    const attempts: string[] = [];
    const flaky = createServer((request, response) => {
      attempts.push(String(request.url));
      if (attempts.length === 1) request.socket.destroy();
      else response.writeHead(307, { location: `${server.url}${request.url}` }).end();
    });
    await new Promise<void>((resolve) => flaky.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void flaky.close());
    const url = `http://127.0.0.1:${(flaky.address() as AddressInfo).port}`;
    // It comes back as one that redirects: the token must not follow.
    const ran = await run(['publish', made.at('build'), '--json'], {
      env: { ...env, QX_SERVER: url },
      clock: { ...clock, sleep },
    });
    refused(ran, 'SERVER_REFUSED', 9);
    expect(attempts).toHaveLength(2);
  });
});

requires({ commands: ['mksquashfs'] })('promote', () => {
  test('needs the key of the channel it goes to', async () => {
    const made = await desk();
    const { at } = made;
    const { run, served } = await serving(made);
    await run(['publish', at('build')]);
    const args = ['promote', '1.2.0', '--to', 'beta', '--json', '--key', at('dev.private.json')];
    refused(await run(args), 'KEY_NOT_ALLOWED', 7);
    expect((await served('manifest/signed?channel=beta')).status).toBe(404);
  });

  test('a dry run publishes nothing', async () => {
    const made = await desk();
    const { at } = made;
    const { run, served } = await serving(made);
    await run(['publish', at('build')]);
    const ran = await run([
      'promote',
      '1.2.0',
      '--to',
      'beta',
      '--dry-run',
      '--json',
      '--key',
      at('beta.private.json'),
    ]);
    expect(document(ran)).toMatchObject({ schema: 'qx-release.promote/1', status: 'dry-run', from: 'dev', to: 'beta' });
    expect((await served('manifest/signed?channel=beta')).status).toBe(404);
  });

  test('a version that is not there', async () => {
    const made = await desk();
    const { run } = await serving(made);
    const ran = await run(['promote', '9.9.9', '--to', 'beta', '--json', '--key', made.at('beta.private.json')]);
    expect(['NOT_FOUND', 'NO_RELEASE']).toContain(document(ran).code);
  });

  test('what the server changed on the way is refused', async () => {
    const made = await desk();
    const { at } = made;
    const { run } = await serving(made);
    await run(['publish', at('build')]);
    const path = at('served/quantix-os/dev/1.2.0/manifest.signed.json');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"requires_reboot": true', '"requires_reboot": false'));
    expect(await readFile(path, 'utf8')).not.toBe(text);
    const ran = await run(['promote', '1.2.0', '--to', 'beta', '--json', '--key', at('beta.private.json')]);
    refused(ran, 'SIGNATURE_INVALID', 7);
  });

  test.each([
    ['to dev, without saying from where', ['--to', 'dev']],
    ['to where it is', ['--from', 'beta', '--to', 'beta']],
  ])('%s', async (_title, args) => {
    expect(await release(['promote', '1.2.0', ...args])).toMatchObject({ exitCode: 2 });
  });
});
