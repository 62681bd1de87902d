import { mkdir, readFile, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hostFolder, qxUpdate, releaseServer, runAgentProcess, startAgent } from '../support/agent.ts';
import { authority } from '../support/certificates.ts';
import { sampleJournal } from '../support/journal.ts';
import { temporaryFolder } from '../support/temp.ts';
import { curl } from '../support/update-server.ts';

/** The agent's process: what it refuses to start with, what it keeps, and how it ends. */

test.each([
  ['an unknown key', 'updates:\n  auto_aply: true\n', 'auto_aply'],
  ['a wrong value', 'updates:\n  channel: nightly\n', 'channel must be one of dev, beta, stable'],
  ['no YAML', 'updates: [\n', 'node.yaml'],
])('%s in the settings is refused by file and key before anything listens', async (_what, text, key) => {
  const host = await hostFolder();
  await host.write('quantix/limiquantix/node.yaml', text);
  const { exitCode, all } = await runAgentProcess(host.path);
  expect(exitCode).toBe(2);
  expect(all).toContain('/quantix/limiquantix/node.yaml');
  expect(all).toContain(key);
  expect(all).toContain('[CONFIG_INVALID]');
  expect(all).not.toContain('"listening"');
  expect(await stat(join(host.path, 'run/quantix/node.sock')).catch(() => null)).toBeNull();
});

test('defect 19: later settings win, also those in /quantix that a reboot keeps: drop-ins in the order of their names, and last what was changed on the host', async () => {
  const host = await hostFolder(['channel: dev']);
  await host.write('etc/limiquantix/node.d/20-second.yaml', 'updates:\n  channel: stable\n  check_interval: 3h\n');
  await host.write('etc/limiquantix/node.d/10-first.yaml', 'updates:\n  channel: beta\n  check_interval: 2h\n');
  await host.write('quantix/limiquantix/node.yaml', 'updates:\n  check_interval: 4h\n');
  await startAgent(host.path);
  const socket = join(host.path, 'run/quantix/node.sock');
  const answer = await curl('--unix-socket', socket, 'http://localhost/api/v1/updates/config');
  expect(JSON.parse(answer.text)).toMatchObject({ channel: 'stable', checkIntervalSecs: 4 * 3600, autoCheck: false });
});

test('a root that is not there is refused, and not made', async () => {
  const root = join(await temporaryFolder(), 'misspelt');
  const { exitCode, all } = await runAgentProcess(root);
  expect([exitCode, all]).toEqual([2, expect.stringContaining(`there is no folder ${root}`)]);
  expect(await stat(root).catch(() => null)).toBeNull();
});

test('a second agent on one host is refused, and leaves the first one alone', async () => {
  const host = await hostFolder();
  await startAgent(host.path);
  const { exitCode, all } = await runAgentProcess(host.path);
  expect(exitCode).toBe(6);
  expect(all).toContain('[BUSY]');
  expect((await qxUpdate(host.path, 'status')).exitCode).toBe(0);
});

test('it stops cleanly, and starts again with the same token and the same certificate', async () => {
  const host = await hostFolder();
  const read = (name: string) => readFile(join(host.path, 'quantix/limiquantix', name), 'utf8');
  const first = await startAgent(host.path);
  const kept = [await read('tls.crt'), await read('tls.key'), await read('api-token')];
  expect((await stat(join(host.path, 'quantix/limiquantix/tls.key'))).mode & 0o777).toBe(0o600);
  first.kill('SIGTERM');
  expect(await first.ended).toEqual({ exitCode: 0 });
  expect(await stat(join(host.path, 'run/quantix/node.sock')).catch(() => null)).toBeNull();

  const second = await startAgent(host.path);
  expect([await read('tls.crt'), await read('tls.key'), await read('api-token')]).toEqual(kept);
  const verified = ['--cacert', join(host.path, 'quantix/limiquantix/tls.crt')];
  expect((await curl(...verified, `https://localhost:${second.port}/health`)).status).toBe(200);
});

test('after a crash the next agent takes over its socket and its lock', async () => {
  const host = await hostFolder();
  const first = await startAgent(host.path);
  first.kill('SIGKILL');
  await first.ended;
  await startAgent(host.path);
  expect((await qxUpdate(host.path, 'status')).exitCode).toBe(0);
});

/** What is closed, and that all else goes on. */
async function closedDoors(path: string): Promise<readonly { door: string; code: string; next?: string }[]> {
  const status = JSON.parse((await qxUpdate(path, 'status', '--json')).stdout);
  expect(status).toMatchObject({ status: 'idle' });
  expect((await qxUpdate(path, 'current')).exitCode).toBe(0);
  return status.closed ?? [];
}

test.each(['changeme\n', '', '\0\0\0'])(
  'a token that is none (%j) closes the network to tokens, and nothing else',
  async (token) => {
    const host = await hostFolder();
    await host.write('quantix/limiquantix/api-token', token, 0o600);
    const { port, output } = await startAgent(host.path);
    expect(await closedDoors(host.path)).toMatchObject([
      { door: 'api_token', code: 'INSECURE_TOKEN', next: expect.stringContaining('qx-update token rotate') },
    ]);
    expect((await qxUpdate(host.path, 'status')).stdout).toMatch(/^Closed +the network, by token: .*INSECURE_TOKEN/m);
    const asked = [
      '-k',
      '-H',
      `Authorization: Bearer ${token.trim() || 'x'}`,
      `https://127.0.0.1:${port}/api/v1/updates/status`,
    ];
    expect((await curl(...asked.map((part) => part.replaceAll('\0', '0')))).status).toBe(401);
    expect(output()).not.toContain('changeme');
    expect((await qxUpdate(host.path, 'token', 'rotate')).exitCode).toBe(0);
    expect(await closedDoors(host.path)).toEqual([]);
  },
);

test('without the network nobody misses a token', async () => {
  const host = await hostFolder();
  await host.write('etc/limiquantix/node.d/20-off.yaml', 'updates:\n  listen: "off"\n');
  await host.write('quantix/limiquantix/api-token', '', 0o600);
  await startAgent(host.path);
  expect(await closedDoors(host.path)).toEqual([]);
});

test('a certificate of the operator that cannot be used closes the network by its setting, and nothing else', async () => {
  const host = await hostFolder(['tls_cert: /etc/tls.crt', 'tls_key: /etc/tls.key']);
  await startAgent(host.path);
  expect(await closedDoors(host.path)).toMatchObject([
    { door: 'network', code: 'CONFIG_INVALID', detail: 'updates.tls_cert: there is no file /etc/tls.crt' },
  ]);
});

test('a bundle of authorities that cannot be read lets nobody in by a certificate, and everybody else', async () => {
  const host = await hostFolder(['client_ca: /etc/client-ca.pem', 'server_ca: /etc/server-ca.pem']);
  await host.write('etc/client-ca.pem', 'no certificate\n');
  const { port, kill } = await startAgent(host.path);
  expect(await closedDoors(host.path)).toMatchObject([{ door: 'client_ca', code: 'CONFIG_INVALID' }]);
  expect((await curl('-k', `https://127.0.0.1:${port}/health`)).status).toBe(200);
  // Mended while it runs, it lets in whom it vouches for.
  const clients = await authority('clients');
  const { cert, key } = await clients.client('admin');
  await host.write('client.pem', `${cert}\n${key}`);
  const asAdmin = async () =>
    (await curl('-k', '--cert', join(host.path, 'client.pem'), `https://127.0.0.1:${port}/api/v1/updates/status`))
      .status;
  expect(await asAdmin()).toBe(401);
  await host.write('etc/client-ca.pem', clients.cert);
  kill('SIGHUP');
  await expect.poll(() => closedDoors(host.path), { timeout: 20_000 }).toEqual([]);
  expect(await asAdmin()).toBe(200);
  expect(await qxUpdate(host.path, 'check')).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('updates.server_ca: there is no file /etc/server-ca.pem'),
  });
});

test('T32 a planted symlink in the place of the socket, the token or the key is replaced or refused, never followed', async () => {
  const host = await hostFolder();
  const victim = join(host.path, 'victim');
  await host.write('victim', 'untouched\n');
  await mkdir(join(host.path, 'run/quantix'), { recursive: true });
  await mkdir(join(host.path, 'quantix/limiquantix'), { recursive: true });
  for (const name of ['run/quantix/node.sock', 'quantix/limiquantix/api-token', 'quantix/limiquantix/tls.key']) {
    await symlink(victim, join(host.path, name));
  }
  await startAgent(host.path);
  expect(await readFile(victim, 'utf8')).toBe('untouched\n');
  expect((await qxUpdate(host.path, 'status')).exitCode).toBe(0);
});

test('a host in a folder with a long name is reached too', async () => {
  const root = join(await temporaryFolder(), 'x'.repeat(100), 'y'.repeat(100));
  const host = await hostFolder([], root);
  const agent = await startAgent(host.path);
  expect((await qxUpdate(host.path, 'status')).exitCode).toBe(0);
  agent.kill('SIGTERM');
  expect(await agent.ended).toEqual({ exitCode: 0 });
  expect((await qxUpdate(host.path, 'status')).exitCode).toBe(10);
});

test('an update that replaces the agent ends it, after whoever follows has read how it went', async () => {
  const server = await releaseServer({ 'qx-node': '#!/bin/sh\necho the new agent\n' });
  const host = await hostFolder(server.settings);
  await server.trustIn(host);
  await host.write('data/bin/qx-node', 'the old agent\n', 0o755);
  await host.write('data/versions/qx-node.version', '1.0.0\n');
  const agent = await startAgent(host.path);
  expect(await qxUpdate(host.path, 'apply')).toMatchObject({ exitCode: 0, stdout: 'Updated to version 1.1.0.' });
  const finishedMs = performance.now();
  expect(await agent.ended).toEqual({ exitCode: 0 });
  expect(performance.now() - finishedMs).toBeLessThan(5000);
  expect(await readFile(join(host.path, 'data/bin/qx-node'), 'utf8')).toContain('the new agent');
});

test('an agent that finds itself half replaced puts the old one back and makes way for it', async () => {
  const host = await hostFolder();
  const backup = '/data/updates/backup/qx-node/20261102T000000Z-1.0.0/qx-node';
  await host.write(backup, 'the old agent\n', 0o755);
  await host.write('data/bin/qx-node', 'the new agent\n', 0o755);
  await host.write('data/versions/qx-node.version', '1.1.0\n');
  const [component] = sampleJournal.components;
  const components = [{ ...component, previous_version: '1.0.0', kind: 'file', backup, state: 'swapped' }];
  const journal = { ...sampleJournal, phase: 'applying', pending: false, target_slot: null, image: null, components };
  await host.write('quantix/ab-update-state.json', JSON.stringify(journal));

  const { exitCode, all } = await runAgentProcess(host.path);
  expect([exitCode, all]).toEqual([0, expect.stringContaining('the executable of the agent was put back')]);
  expect(await readFile(join(host.path, 'data/bin/qx-node'), 'utf8')).toBe('the old agent\n');

  await startAgent(host.path);
  expect(await qxUpdate(host.path, 'status')).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining('Update to 1.1.0 failed'),
  });
});
