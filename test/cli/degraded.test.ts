import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { freshState } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import { type HostFolder, hostFolder, qxUpdate, runAgentProcess, startAgent } from '../support/agent.ts';
import { curl } from '../support/update-server.ts';

const SLIP = 'updates:\n  auto_aply: true\n';
const GOOD = 'updates:\n  listen: "off"\n  auto_check: false\n';
const CHANGED = 'quantix/limiquantix/node.yaml';

/** A host on which node-run has started this version; `proven` was up here before. */
async function startedAs(version: string, proven: string): Promise<HostFolder> {
  const host = await hostFolder();
  await host.write('run/quantix/node-start', `${version} 17\n`);
  await host.write('data/versions/qx-node.proven', `${proven}\n`);
  await host.write('data/updates/node-starts', `1 ${version}\n`);
  await host.write(CHANGED, SLIP);
  return host;
}

describe('settings that the agent refuses', () => {
  test('a version that is new here ends at once, so that node-run takes it back', async () => {
    const host = await startedAs('1.1.0', '1.0.0');
    const { exitCode, all } = await runAgentProcess(host.path);
    expect([exitCode, all]).toEqual([2, expect.stringContaining('auto_aply')]);
    expect(await readFile(join(host.path, 'data/updates/node-starts'), 'utf8')).toBe('1 1.1.0\n');
  });

  test('a version that ran here before stays up, says so, touches nothing, and comes back with mended ones', async () => {
    const host = await startedAs('1.0.0', '1.0.0');
    const agent = await startAgent(host.path);
    const status = await qxUpdate(host.path, 'status', '--json');
    expect(JSON.parse(status.stdout)).toMatchObject({
      status: 'error',
      message: expect.stringMatching(/auto_aply.*qx-update config check/),
    });
    expect(await qxUpdate(host.path, 'status')).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('auto_aply'),
    });
    const refused = { exitCode: 2, stderr: expect.stringContaining('SETTINGS_REFUSED') };
    expect(await qxUpdate(host.path, 'check')).toMatchObject(refused);
    expect(await qxUpdate(host.path, 'apply')).toMatchObject(refused);
    // The health gate of a trial boot reads the same settings.
    expect(await qxUpdate(host.path, 'confirm')).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('CONFIG_INVALID'),
    });
    const socket = join(host.path, 'run/quantix/node.sock');
    const health = await curl('--unix-socket', socket, 'http://localhost/health');
    expect([health.status, JSON.parse(health.text)]).toEqual([
      503,
      expect.objectContaining({ code: 'SETTINGS_REFUSED' }),
    ]);
    await expect(readFile(join(host.path, 'data/updates/node-starts'))).rejects.toThrow('ENOENT');

    await host.write(CHANGED, GOOD);
    expect(await agent.ended).toEqual({ exitCode: 0 });
    expect(await startAgent(host.path)).toMatchObject({ port: 0 });
    expect(await qxUpdate(host.path, 'status')).toMatchObject({ exitCode: 0 });
  });

  test('it ends when it is told to', async () => {
    const host = await startedAs('1.0.0', '1.0.0');
    const agent = await startAgent(host.path);
    agent.kill('SIGTERM');
    expect(await agent.ended).toEqual({ exitCode: 0 });
  });
});

describe('a host whose /quantix is not mounted', () => {
  /** It was up once, and is marked. */
  async function marked(): Promise<HostFolder> {
    const host = await hostFolder();
    await host.write('proc/cmdline', 'quantix.slot=A quantix.env=grubenv\n');
    for (const copy of ['grubenv', 'grubenv.bak'])
      await host.write(`boot/grub/${copy}`, new TextDecoder().decode(encodeBoot(freshState('A'))));
    const agent = await startAgent(host.path);
    agent.kill('SIGTERM');
    await agent.ended;
    return host;
  }

  test('says so, begins nothing anew, and comes back once it is mounted', async () => {
    const host = await marked();
    const [folder, real] = ['quantix', 'real-quantix'].map((name) => join(host.path, name)) as [string, string];
    await rename(folder, real);
    await mkdir(folder);
    const agent = await startAgent(host.path);
    expect(await qxUpdate(host.path, 'status')).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('/quantix is not mounted'),
    });
    const refused = { exitCode: 1, stderr: expect.stringContaining('MOUNT_MISSING') };
    for (const line of [
      'apply',
      'confirm',
      'slots',
      'health',
      'rollback',
      'log',
      'token show',
      'token rotate',
      'config set channel=beta',
    ]) {
      expect([line, await qxUpdate(host.path, ...line.split(' '))]).toEqual([line, expect.objectContaining(refused)]);
    }
    expect(await qxUpdate(host.path, 'mounts', 'list')).toMatchObject({
      exitCode: 1,
      stdout: expect.stringMatching(/\/quantix +NOT MOUNTED\n/),
    });
    expect(await readdir(folder)).toEqual([]);
    await rm(folder, { recursive: true });
    await rename(real, folder);
    expect(await agent.ended).toEqual({ exitCode: 0 });
    await startAgent(host.path);
    expect(await qxUpdate(host.path, 'mounts', 'list')).toMatchObject({ exitCode: 0 });
  });

  test('that is a new disk is accepted by a person, and the host is another one then', async () => {
    const host = await marked();
    const identity = (): Promise<string> => readFile(join(host.path, 'quantix/limiquantix/host.json'), 'utf8');
    const before = await identity();
    await rm(join(host.path, 'quantix'), { recursive: true });
    expect(await qxUpdate(host.path, 'mounts', 'accept', '/quantix')).toMatchObject({ exitCode: 2 });
    const blank = await qxUpdate(host.path, 'mounts', 'accept', '/quantix', '--reason', ' ');
    expect(blank).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('It has to say why') });
    const accepted = await qxUpdate(host.path, 'mounts', 'accept', '/quantix', '--reason', 'new disk');
    expect(accepted).toMatchObject({ exitCode: 0 });
    await startAgent(host.path);
    expect(await qxUpdate(host.path, 'status')).toMatchObject({
      exitCode: 0,
      stdout: expect.not.stringContaining('mounted'),
    });
    expect(await identity()).not.toBe(before);
  });
});
