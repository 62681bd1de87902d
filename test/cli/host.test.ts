import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  followUpdate,
  hostFolder,
  NEW_CONSOLE,
  qxUpdate,
  qxUpdateByEnvironment,
  releaseServer,
  startAgent,
} from '../support/agent.ts';
import { runInProcess } from '../support/host-tools.ts';

/** qx-update as a process, against a real agent: exit codes, and the documents that --json prints. */

/** Without a process of its own, where it is the verb that matters. */
async function quickly(root: string, ...args: readonly string[]) {
  const { exitCode, stdout, stderr } = await runInProcess(['--root', root, ...args]);
  return { exitCode, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
}

async function updatable(settings: readonly string[] = []) {
  const server = await releaseServer();
  const host = await hostFolder([...server.settings, ...settings]);
  await server.trustIn(host);
  const agent = await startAgent(host.path);
  const run = (...args: readonly string[]) => quickly(host.path, ...args);
  const json = async (...args: readonly string[]) => {
    const { exitCode, stdout, stderr } = await run(...args, '--json');
    expect(stdout.split('\n')).toHaveLength(1);
    return { exitCode, stderr, document: JSON.parse(stdout) };
  };
  return { server, host, agent, run, json };
}

test('an update from the first look to the last', async () => {
  const { host, run, json } = await updatable();
  expect(await json('status')).toMatchObject({
    exitCode: 0,
    document: { schema: 'qx-update.status/1', status: 'idle', currentVersion: '1.0.0', channel: 'dev' },
  });
  expect(await json('check')).toMatchObject({
    exitCode: 0,
    document: { schema: 'qx-update.check/1', available: true, availableVersion: '1.1.0' },
  });
  expect(await json('plan')).toMatchObject({
    exitCode: 0,
    document: { schema: 'qx-update.plan/1', version: '1.1.0', requiresReboot: false },
  });
  const applied = await json('apply');
  expect(applied).toMatchObject({ exitCode: 0, document: { schema: 'qx-update.apply/1', kind: 'complete' } });
  for (const line of applied.stderr.split('\n').filter((l) => l !== '')) {
    expect(JSON.parse(line)).toMatchObject({ schema: 'qx-update.progress/1', percent: expect.any(Number) });
  }
  expect(await readFile(join(host.path, 'data/bin/qx-console'), 'utf8')).toBe(NEW_CONSOLE);
  expect(await json('current')).toMatchObject({ document: { schema: 'qx-update.current/1', qxConsole: '1.1.0' } });

  // Nothing newer: said by each verb in its own way, with one exit code.
  expect(await json('check')).toMatchObject({ exitCode: 3, document: { available: false } });
  expect(await json('plan')).toMatchObject({ exitCode: 3, document: { refused: { code: 'NOTHING_NEWER' } } });
  expect(await json('apply')).toMatchObject({
    exitCode: 3,
    document: { schema: 'qx-update.error/1', code: 'NOTHING_NEWER', exit_code: 3 },
  });

  expect(await json('rollback', '--reason', 'a test')).toMatchObject({
    exitCode: 0,
    document: { schema: 'qx-update.rollback/1', kind: 'rolled_back', from: '1.1.0', to: '1.0.0' },
  });
  expect(await readFile(join(host.path, 'data/bin/qx-console'), 'utf8')).toBe('the old console\n');
  expect((await run('apply')).exitCode).toBe(5);
  expect((await run('apply', '--version', '1.1.0', '--component', 'qx-console')).exitCode).toBe(0);
});

test('the flag forms are the verbs', async () => {
  const { run } = await updatable();
  for (const verb of ['status', 'check', 'rollback']) {
    const [flag, plain] = [await run(`--${verb}`, '--json'), await run(verb, '--json')];
    expect(flag).toEqual(plain);
  }
});

test('a host is found by its folder, by the environment of the boot scripts, and by its socket', async () => {
  const { host, run } = await updatable();
  const expected = await run('status');
  expect(await qxUpdateByEnvironment(host.path, 'status')).toEqual(expected);
  const socket = join(host.path, 'run/quantix/node.sock');
  expect(await qxUpdateByEnvironment('', '--socket', socket, 'status')).toEqual(expected);
});

test('people get words, a component that does not exist, and what to do next', async () => {
  const { run } = await updatable();
  expect((await run('status')).stdout).toMatch(/^Status +idle\nVersion +1\.0\.0 \(channel dev\)\n/);
  expect((await run('check')).stdout).toMatch(/^1\.0\.0 -> 1\.1\.0 on channel dev/);
  expect((await run('plan')).stdout).toContain('replace qx-console by 1.1.0');
  const unknown = await run('apply', '--component', 'nothing');
  expect(unknown).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[NOT_FOUND]') });
  expect((await run('apply', '--version', '9.9.9')).exitCode).not.toBe(0);
});

test('Ctrl-C stops following and not the update, and a second order finds it busy', async () => {
  const { host, server, run } = await updatable();
  server.hold(true);
  const following = followUpdate(host.path, 'apply');
  await expect.poll(async () => (await run('status')).stdout, { timeout: 20_000 }).toContain('downloading');
  expect(await run('apply')).toMatchObject({ exitCode: 6, stderr: expect.stringContaining('[BUSY]') });
  expect((await run('rollback')).exitCode).toBe(6);
  following.kill('SIGINT');
  expect(await following).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('goes on in the agent') });
  expect((await run('status')).stdout).toContain('downloading');
});

test('an agent that dies in the middle is waited for, and its successor says how it ended', async () => {
  const { host, server, agent } = await updatable();
  server.hold(true);
  const following = followUpdate(host.path, 'apply');
  // Its order was taken, and it follows: not before, or it would find no agent to give it to.
  const told: string[] = [];
  following.stderr.on('data', (data: Buffer) => told.push(data.toString()));
  await expect.poll(() => told.join(''), { timeout: 20_000 }).toContain('downloading');
  agent.kill('SIGKILL');
  await agent.ended;
  await startAgent(host.path);
  expect(await following).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[INTERRUPTED]') });
});

test('detached, it is only started', async () => {
  const { json } = await updatable();
  expect(await json('apply', '--detach')).toMatchObject({ exitCode: 0, document: { status: 'started' } });
  await expect.poll(async () => (await json('status')).document.status, { timeout: 20_000 }).toBe('complete');
});

test('a server that is not there, and updates that are switched off', async () => {
  const server = await releaseServer();
  const host = await hostFolder(['server_url: http://127.0.0.1:9', 'keyring: /etc/keyring.json']);
  await server.trustIn(host);
  await startAgent(host.path);
  expect((await qxUpdate(host.path, 'check')).exitCode).toBe(9);
  const off = await updatable(['enabled: false']);
  expect(await off.run('apply')).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('[UPDATES_DISABLED]') });
});

test('a release that nobody here trusts', async () => {
  const server = await releaseServer();
  const host = await hostFolder(server.settings.slice(0, 1));
  await startAgent(host.path);
  expect((await qxUpdate(host.path, 'check')).exitCode).toBe(7);
  expect((await qxUpdate(host.path, 'status')).stdout).toContain('no release can be verified');
});

test('without the agent', async () => {
  const host = await hostFolder();
  for (const verb of ['status', 'check', 'plan', 'apply', 'current']) {
    const { exitCode, stdout } = await quickly(host.path, verb, '--json');
    expect([verb, exitCode]).toEqual([verb, 10]);
    expect(JSON.parse(stdout)).toMatchObject({ code: 'AGENT_DOWN', next: expect.stringContaining('quantix-node') });
  }
  expect((await quickly(host.path, 'confirm')).exitCode).toBe(3);
  expect((await quickly(host.path, 'rollback')).exitCode).toBe(3);
  expect((await quickly(host.path, 'mark', 'good')).exitCode).toBe(0);
  expect((await quickly(host.path, 'mark', 'bad')).exitCode).toBe(5);
  const slots = await quickly(host.path, 'slots', '--json');
  expect(JSON.parse(slots.stdout)).toMatchObject({
    schema: 'qx-update.slots/1',
    slots: [
      { slot: 'A', running: true, next: true, ok: true, version: '1.0.0' },
      { slot: 'B', running: false, next: false, ok: false },
    ],
  });
  expect((await quickly(host.path, 'slots')).stdout).toMatch(/^SLOT +RUNS +NEXT +STATE/);
});

test.each([
  [['statsu']],
  [['mark', 'ugly']],
  [['mark']],
  [['apply', '--nothing']],
  [['apply', '--component', 'x', '--reboot']],
])('%j is a usage error', async (args) => {
  const host = await hostFolder();
  expect((await qxUpdate(host.path, ...args)).exitCode).toBe(2);
});
