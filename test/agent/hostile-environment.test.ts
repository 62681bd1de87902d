import { once } from 'node:events';
import { access, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { hostFolder, qxUpdate, startAgent } from '../support/agent.ts';
import { built } from '../support/built.ts';
import { authority } from '../support/certificates.ts';
import { temporaryFolder } from '../support/temp.ts';
import { curl } from '../support/update-server.ts';

/** T39: what is in the environment of an agent that somebody starts by hand. How the service starts it: node-run.test.ts. */

vi.setConfig({ testTimeout: 120_000 });

/** An update server with a certificate of an authority that no host knows. It counts who got past the handshake. */
async function strangeServer() {
  const ca = await authority('strangers');
  const asked: string[] = [];
  const server = createServer(await ca.issue('127.0.0.1'), (request, response) => {
    asked.push(request.url ?? '');
    response.end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { ca, asked, url: `https://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

test('T39 no authority, proxy, key log or option from the environment reaches the agent or weakens its TLS', async () => {
  const { ca, asked, url } = await strangeServer();
  const folder = await temporaryFolder();
  const [bundle, keys] = [join(folder, 'ca.pem'), join(folder, 'keys')];
  await writeFile(bundle, ca.cert);
  const host = await hostFolder([`server_url: ${url}`]);
  const agent = await startAgent(host.path, {
    NODE_TLS_REJECT_UNAUTHORIZED: '0',
    NODE_EXTRA_CA_CERTS: bundle,
    SSL_CERT_FILE: bundle,
    SSL_CERT_DIR: folder,
    NODE_OPTIONS: `--use-openssl-ca --tls-keylog=${keys}`,
    OPENSSL_CONF: join(folder, 'nothing.cnf'),
    SSLKEYLOGFILE: keys,
    HTTPS_PROXY: url.replace('https', 'http'),
    https_proxy: url.replace('https', 'http'),
    NODE_USE_ENV_PROXY: '1',
    KEPT: 'yes',
  });
  const environ = (await readFile(`/proc/${agent.pid}/environ`, 'utf8')).split('\0').map((line) => line.split('=')[0]);
  expect(environ.filter((name) => name !== '').sort()).toEqual(['KEPT', 'PATH']);
  const { exitCode, stderr } = await qxUpdate(host.path, 'check');
  expect([exitCode, stderr]).toEqual([9, expect.stringMatching(/SERVER_UNREACHABLE/)]);
  expect(asked).toEqual([]);
  expect((await curl('-k', `https://127.0.0.1:${agent.port}/health`)).status).toBe(200);
  await expect(access(keys)).rejects.toThrow('ENOENT');
});

describe('the executable', () => {
  test('T39 runs nothing that NODE_OPTIONS names', async () => {
    const folder = await temporaryFolder();
    const evil = join(folder, 'evil.cjs');
    await writeFile(
      evil,
      `require('node:fs').writeFileSync(${JSON.stringify(`${evil}.ran`)}, ''); console.log('evil');`,
    );
    for (const NODE_OPTIONS of [`--require ${evil}`, '--no-such-option', '--inspect=127.0.0.1:1']) {
      const { stdout, exitCode } = await execa(built('qx-node'), ['--version'], {
        env: { NODE_OPTIONS },
        extendEnv: false,
      });
      expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/^qx-node \S+ \(keyring: \w+\)$/)]);
    }
    await expect(access(`${evil}.ran`)).rejects.toThrow('ENOENT');
  });

  test('T39 starts again without them, under the name that it was called by', async () => {
    const host = await hostFolder(['auto_aply: yes']);
    const ran = await execa(built('qx-node'), ['--root', host.path], {
      env: { NODE_EXTRA_CA_CERTS: '/nothing.pem', SSL_CERT_FILE: '/nothing.pem' },
      extendEnv: false,
      reject: false,
    });
    expect([ran.exitCode, ran.stderr]).toEqual([2, expect.stringContaining('auto_aply')]);
    expect(ran.stderr).not.toContain('nothing.pem');
  });

  test('T39 has not begun to read them by then: what loads TLS is loaded after it', async () => {
    const ran = await execa(built('qx-node'), ['--no-such-option'], {
      env: { NODE_EXTRA_CA_CERTS: '/nothing.pem' },
      extendEnv: false,
      reject: false,
    });
    expect([ran.exitCode, ran.stderr]).toEqual([2, expect.not.stringContaining('nothing.pem')]);
  });
});
