import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  type HostFolder,
  hostFolder,
  NEW_CONSOLE,
  type ReleaseServer,
  type RunningAgent,
  releaseServer,
  startAgent,
} from '../support/agent.ts';
import { curl } from '../support/update-server.ts';

/** The checklist of the client's document, and what keeps strangers out, over real sockets and real TLS. */

interface Running {
  readonly host: HostFolder;
  readonly server: ReleaseServer;
  readonly agent: RunningAgent;
  readonly api: string;
  readonly token: string;
}

async function running(settings: readonly string[] = []): Promise<Running> {
  const server = await releaseServer();
  const host = await hostFolder([...server.settings, ...settings]);
  await server.trustIn(host);
  const agent = await startAgent(host.path);
  const token = (await readFile(join(host.path, 'quantix/limiquantix/api-token'), 'utf8')).trim();
  return { host, server, agent, token, api: `https://127.0.0.1:${agent.port}/api/v1/updates` };
}

const ask = async (url: string, ...args: readonly string[]) => {
  const { status, text, headers } = await curl('-k', ...args, url);
  return { status, headers, json: text.startsWith('{') ? JSON.parse(text) : text };
};
const bearer = (token: string): string[] => ['-H', `Authorization: Bearer ${token}`];
const settled = ({ api, token }: Pick<Running, 'api' | 'token'>, status: string) =>
  expect
    .poll(async () => (await ask(`${api}/status`, ...bearer(token))).json, { timeout: 30_000 })
    .toMatchObject({ status });

test('checklist: check returns the right comparison of versions', async () => {
  const { api, token } = await running();
  expect((await ask(`${api}/check`, ...bearer(token))).json).toEqual({
    available: true,
    currentVersion: '1.0.0',
    availableVersion: '1.1.0',
    channel: 'dev',
    components: [{ name: 'qx-console', currentVersion: '1.0.0', newVersion: '1.1.0', sizeBytes: expect.any(Number) }],
    fullImageAvailable: false,
    totalDownloadSize: expect.any(Number),
  });
});

test('checklist: current returns the versions of all components', async () => {
  const { api, host, token } = await running();
  await host.write('data/versions/qx-node.version', '1.0.1\n');
  await host.write('data/versions/host-ui.version', '1.0.2\n');
  const versions = { osVersion: '1.0.0', qxNode: '1.0.1', qxConsole: '1.0.0', hostUi: '1.0.2' };
  expect((await ask(`${api}/current`, ...bearer(token))).json).toEqual(versions);
});

test('checklist: status reflects what the agent does, apply starts in the background, and a second one is refused with 409', async () => {
  const { api, server, token } = await running();
  expect((await ask(`${api}/status`, ...bearer(token))).json).toEqual({ status: 'idle' });
  await ask(`${api}/check`, ...bearer(token));
  expect((await ask(`${api}/status`, ...bearer(token))).json).toEqual({
    status: 'available',
    message: 'Version 1.1.0 available',
  });

  server.hold(true);
  const started = await ask(`${api}/apply`, '-X', 'POST', ...bearer(token));
  expect(started).toMatchObject({ status: 200, json: { status: 'started', message: 'Update process started' } });
  await settled({ api, token }, 'downloading');
  expect(await ask(`${api}/apply`, '-X', 'POST', ...bearer(token))).toMatchObject({
    status: 409,
    json: { code: 'BUSY' },
  });
});

test('apply installs what the check found, and status says so', async () => {
  const { api, host, token } = await running();
  await ask(`${api}/apply`, '-X', 'POST', ...bearer(token), '--json', '{}');
  await settled({ api, token }, 'complete');
  expect(await readFile(join(host.path, 'data/bin/qx-console'), 'utf8')).toBe(NEW_CONSOLE);
  expect((await ask(`${api}/current`, ...bearer(token))).json).toMatchObject({ qxConsole: '1.1.0' });
  expect((await ask(`${api}/check`, ...bearer(token))).json).toMatchObject({
    available: false,
    currentVersion: '1.1.0',
  });
});

test('config and version have the fields of the documents', async () => {
  const { api, server, token } = await running(['check_interval: 2h']);
  const config = { serverUrl: server.url, channel: 'dev', autoCheck: false, checkIntervalSecs: 7200 };
  expect((await ask(`${api}/config`, ...bearer(token))).json).toMatchObject(config);
  const keyring = { kind: 'development', from: 'configuration' };
  const version = { currentVersion: '1.0.0', channel: 'dev', hostname: expect.any(String), keyring };
  expect((await ask(`${api}/version`, ...bearer(token))).json).toEqual(version);
});

test('defect 1, T37: over the network orders need the token, and a wrong one is slowed down', async () => {
  const { agent, api, token, host } = await running();
  expect((await stat(join(host.path, 'quantix/limiquantix/api-token'))).mode & 0o777).toBe(0o600);
  expect(Buffer.from(token, 'base64url')).toHaveLength(32);
  expect(await ask(`${api}/apply`, '-X', 'POST')).toMatchObject({ status: 401, json: { code: 'TOKEN_REQUIRED' } });
  expect(await ask(`${api}/apply?token=${token}`, '-X', 'POST')).toMatchObject({ status: 401 });
  expect(await ask(`${api}/plan`)).toMatchObject({ status: 401 });
  for (let i = 0; i < 6; i++) {
    const wrong = await ask(`${api}/apply`, '-X', 'POST', ...bearer(`wrong-${i}`));
    expect(wrong).toMatchObject({ status: 401, json: { code: 'TOKEN_REFUSED' } });
  }
  const slowed = await ask(`${api}/apply`, '-X', 'POST', ...bearer('wrong-again'));
  expect(slowed).toMatchObject({ status: 429, json: { code: 'TOO_MANY_ATTEMPTS' } });
  expect(Number(slowed.headers['retry-after'])).toBeGreaterThan(0);
  expect((await ask(`${api}/status`, ...bearer(token))).status).toBe(200);
  const socket = join(host.path, 'run/quantix/node.sock');
  const status = await curl('--unix-socket', socket, 'http://localhost/api/v1/updates/status');
  expect(JSON.parse(status.text)).toEqual({ status: 'idle' });
  expect(agent.output()).not.toContain(token);
});

test('a downgrade is only taken over the Unix socket', async () => {
  const { api, token } = await running();
  const asked = await ask(`${api}/apply`, ...bearer(token), '--json', '{"allow_downgrade":true}');
  expect(asked).toMatchObject({ status: 403, json: { code: 'DOWNGRADE_NEEDS_ROOT' } });
});

test('what is not an apply request is refused', async () => {
  const { api, token } = await running();
  const post = (type: string, body: string) =>
    ask(`${api}/apply`, ...bearer(token), '-H', `Content-Type: ${type}`, '--data', body);
  expect(await post('application/json', '{"version":"1.1.0","slot":"A"}')).toMatchObject({ status: 400 });
  expect(await post('application/json', '{"version":"../1"}')).toMatchObject({ status: 400 });
  expect(await post('text/plain', '{}')).toMatchObject({ status: 415 });
  expect((await ask(`${api}/status`, ...bearer(token))).json).toEqual({ status: 'idle' });
});

test('the Unix socket belongs to its owner alone and needs no token', async () => {
  const { host } = await running();
  const socket = join(host.path, 'run/quantix/node.sock');
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
  const answer = await curl('--unix-socket', socket, 'http://localhost/api/v1/updates/plan');
  expect(JSON.parse(answer.text)).toMatchObject({ version: '1.1.0', requiresReboot: false });
});
