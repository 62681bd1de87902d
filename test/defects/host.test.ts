import { execFileSync } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startAgent } from '../support/agent.ts';
import { built } from '../support/built.ts';
import { type Estate, openEstate } from '../support/estate.ts';
import { installer, standIn } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

/** What the ancestor's agent did to the host around it, against a real agent. */

const OLD = 'the old console\n';

describe('defect 18: the version of the system', () => {
  test('is the one that its image names, whatever the agent’s own version file says', async () => {
    const estate = await openEstate();
    await estate.host.write('data/versions/qx-node.version', '7.7.7\n');
    await startAgent(estate.host.path);
    expect((await estate.update('current')).stdout).toMatch(/Quantix-OS +1\.0\.0\nqx-node +7\.7\.7/);
  });

  test('is read again after an update, without a restart', async () => {
    const estate = await openEstate();
    await startAgent(estate.host.path);
    await estate.publish('1.1.0', { 'qx-console': 'new' });
    expect((await estate.update('apply')).exitCode).toBe(0);
    expect((await estate.update('current')).stdout).toMatch(/qx-console +1\.1\.0/);
    expect((await estate.update('status')).stdout).toMatch(/Version +1\.1\.0/);
  });
});

test('defect 20: the console shows what the real agent knows of updates', async () => {
  const estate = await openEstate();
  const { path } = estate.host;
  await estate.host.write('qx-node', standIn('own'), 0o755);
  execFileSync('sh', [installer, '--root', path, '--executable', join(path, 'qx-node'), '--version', '1.0.0']);
  const run = `#!/bin/sh\nexec ${built('qx-update')} --root ${path} "$@"\n`;
  await estate.host.write('run/quantix/bin/qx-update', run, 0o755);
  await startAgent(path);
  await estate.publish('1.1.0', { 'qx-console': 'new' });
  expect((await estate.update('check')).exitCode).toBe(0);
  const env = { PATH: process.env.PATH, QX_ROOT: path };
  const shown = execFileSync('sh', [join(path, 'usr/lib/quantix/bin/qx-console'), '--once'], { env, encoding: 'utf8' });
  expect(shown).toContain('Version 1.1.0 available');
});

requires({ root: true, commands: ['mount', 'umount'] })('T30 a data partition', () => {
  /** Few bytes on the line, many on the disk. */
  const BLOWN_UP = new Uint8Array(48 << 20);

  async function onTmpfs(sizeMib: number): Promise<Estate & { remount(options: string): void }> {
    const estate = await openEstate();
    const data = join(estate.host.path, 'data');
    await mkdir(data, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m,mode=0755`, 'tmpfs', data]);
    onTestFinished(() => void execFileSync('umount', [data]));
    await estate.host.write('data/bin/qx-console', OLD, 0o755);
    await estate.host.write('data/versions/qx-console.version', '1.0.0\n');
    return { ...estate, remount: (options) => void execFileSync('mount', ['-o', `remount,${options}`, data]) };
  }

  const isAsBefore = async (estate: Estate) => {
    expect(await estate.read('data/bin/qx-console')).toBe(OLD);
    expect(await estate.read('data/versions/qx-console.version')).toBe('1.0.0\n');
  };

  test.each([
    ['too small to download to', 8],
    ['that runs full while unpacking', 32],
  ])('%s: said with a code, nothing changed, and installed once there is room', async (_what, sizeMib) => {
    const estate = await onTmpfs(sizeMib);
    const agent = await startAgent(estate.host.path);
    onTestFinished(async () => {
      agent.kill('SIGKILL');
      await agent.ended;
    });
    await estate.publish('1.1.0', { 'qx-console': BLOWN_UP });
    expect(await estate.update('apply')).toMatchObject({ exitCode: 8, stderr: expect.stringContaining('[NO_SPACE]') });
    await isAsBefore(estate);
    estate.remount('size=200m');
    expect((await estate.update('apply')).exitCode).toBe(0);
    expect((await estate.read('data/bin/qx-console'))?.length).toBe(BLOWN_UP.length);
  });

  test('that is read-only: said with a code, nothing changed, and installed once it is not', async () => {
    const estate = await onTmpfs(200);
    const agent = await startAgent(estate.host.path);
    onTestFinished(async () => {
      agent.kill('SIGKILL');
      await agent.ended;
    });
    await estate.publish('1.1.0', { 'qx-console': 'new' });
    estate.remount('ro');
    expect(await estate.update('apply')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/read-only file system.*\[IO\]/s),
    });
    await isAsBefore(estate);
    estate.remount('rw');
    expect((await estate.update('apply')).exitCode).toBe(0);
    expect(await estate.read('data/bin/qx-console')).toBe('new');
  });
});
