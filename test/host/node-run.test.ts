import { chmod, mkdir, open, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import {
  type HostRoot,
  hostRequirements,
  hostRoot,
  putData,
  type Ran,
  type Shell,
  shells,
  standIn,
} from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

const names = ['qx-node', 'qx-update', 'qx-update-server', 'qx-release', 'qx-fleet'];
const nodeRun = 'usr/lib/quantix/node-run';
const start = (root: HostRoot, ...args: string[]): Promise<Ran> => root.run(nodeRun, args);
const counter = async (root: HostRoot) => (await root.read('data/updates/node-starts'))?.split('\n')[0] ?? null;

/** A host with qx-node 1.2.0 in /data and a backup of each given version, oldest first. */
async function updatedHost(shell: Shell, ...backups: string[]): Promise<HostRoot> {
  const root = await hostRoot(shell);
  await putData(root, 'qx-node', '1.2.0');
  await mkdir(join(root.path, 'data/updates'));
  for (const [index, version] of backups.entries())
    await putBackup(root, `2026112${index}T120000Z-${version}`, version);
  return root;
}

const putBackup = (root: HostRoot, folder: string, version: string): Promise<void> =>
  root.write(`data/updates/backup/qx-node/${folder}/qx-node`, standIn(`backup ${version}`), 0o755);

async function startTimes(root: HostRoot, times: number): Promise<Ran> {
  let last = await start(root);
  for (let i = 1; i < times; i++) last = await start(root);
  return last;
}

/** What was in memory is gone. */
const powerCut = (root: HostRoot): Promise<void> => rm(join(root.path, 'run'), { recursive: true, force: true });

requires(hostRequirements)('node-run', () => {
  describe.each(shells)('choice in $name', (shell) => {
    test('starts /data when it is newer, hands its arguments on and points the five names at it', async () => {
      await using root = await updatedHost(shell);
      expect((await start(root, '--root', 'x')).stdout).toBe('data 1.2.0 --root x');
      for (const name of names)
        expect(await root.link(`run/quantix/bin/${name}`)).toBe(join(root.path, 'data/bin/qx-node'));
    });

    test('T39 hands nothing on of the environment that the service was started with', async () => {
      await using root = await updatedHost(shell);
      await root.write('data/bin/qx-node', '#!/bin/sh\ntr "\\0" "\\n" </proc/$$/environ\n', 0o755);
      const exported = {
        NODE_TLS_REJECT_UNAUTHORIZED: '0',
        HTTPS_PROXY: 'http://evil',
        NODE_EXTRA_CA_CERTS: '/evil.pem',
      };
      const { stdout } = await root.run(nodeRun, [], { ...exported, NODE_OPTIONS: '--inspect', SECRET: 'x' });
      const plain = ['HOME=/', 'LANG=C', 'LC_ALL=C', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', `QX_ROOT=${root.path}`];
      expect(stdout.split('\n').sort()).toEqual(plain);
    });

    test.each([
      ['missing', async (root: HostRoot) => rm(join(root.path, 'data/bin/qx-node'))],
      ['not executable', async (root: HostRoot) => chmod(join(root.path, 'data/bin/qx-node'), 0o644)],
      ['empty', async (root: HostRoot) => root.write('data/bin/qx-node', '', 0o755)],
      ['no program at all', async (root: HostRoot) => root.write('data/bin/qx-node', 'echo garbage\n', 0o755)],
      ['without a version', async (root: HostRoot) => rm(join(root.path, 'data/versions/qx-node.version'))],
      [
        'of a version that is none',
        async (root: HostRoot) => root.write('data/versions/qx-node.version', '$(reboot)\n'),
      ],
      ['marked bad', async (root: HostRoot) => root.write('data/versions/qx-node.bad', '1.1.0\n1.2.0\n')],
      ['not newer', async (root: HostRoot) => root.write('data/versions/qx-node.version', '1.0.0\n')],
      ['gone with all of /data', async (root: HostRoot) => rm(join(root.path, 'data'), { recursive: true })],
      ['ignored in safe mode', async (root: HostRoot) => root.write('proc/cmdline', 'quantix.slot=A quantix.safe\n')],
    ])("starts the image's own when /data's is %s", async (_, change) => {
      await using root = await updatedHost(shell);
      await change(root);
      expect((await start(root)).stdout).toBe('own ');
      expect(await root.link('run/quantix/bin/qx-update')).toBe(join(root.path, 'usr/lib/quantix/bin/qx-node'));
      expect(await root.read('dev/kmsg')).toContain("starting the image's own qx-node");
    });

    test('says so and fails when nothing can run', async () => {
      await using root = await hostRoot(shell);
      await rm(join(root.path, 'usr/lib/quantix/bin/qx-node'));
      const { exitCode, stderr } = await start(root);
      expect(exitCode).toBe(1);
      expect(stderr).toContain('no usable qx-node');
    });

    test("starts /data's uncounted when it cannot be counted and the image has none", async () => {
      await using root = await updatedHost(shell);
      await rm(join(root.path, 'usr/lib/quantix/bin/qx-node'));
      await symlink('/dev/full', join(root.path, 'data/updates/node-starts.qx-new'));
      expect((await start(root)).stdout).toBe('data 1.2.0 ');
    });
  });

  describe.each(shells)('counting in $name', (shell) => {
    test('three starts without started-ok: the next restores the newest backup and marks the version bad', async () => {
      await using root = await updatedHost(shell, '1.0.5', '1.1.0');
      expect((await startTimes(root, 3)).stdout).toBe('data 1.2.0 ');
      expect(await counter(root)).toBe('3 1.2.0');

      expect((await start(root)).stdout).toBe('backup 1.1.0 ');
      expect(await root.read('data/versions/qx-node.bad')).toBe('1.2.0\n');
      expect(await root.read('data/versions/qx-node.version')).toBe('1.1.0\n');
      expect(await counter(root)).toBe('1 1.1.0');
      expect(await root.link('run/quantix/bin/qx-update')).toBe(join(root.path, 'data/bin/qx-node'));
      expect(await root.read('dev/kmsg')).toContain('qx-node 1.2.0 was started 3 times');
    });

    // Not the uptime of the machine, which has more digits.
    const gone = /^gone within [0-9]{1,2} s of its start$/;
    test.each([
      ['crashes at once', '#!/bin/sh\nexit 1\n', gone],
      ['exits cleanly at once', '#!/bin/sh\nexit 0\n', gone],
      ['crashes after a while', '#!/bin/sh\nsleep 1.1\nexit 1\n', /^gone within [1-9][0-9]? s of its start$/],
      ['names an interpreter that is not there', '#!/nowhere/sh\n', /^could not be executed$/],
    ])('one that %s is started three times, and the reason says of each how it ended', async (_, program, end) => {
      await using root = await updatedHost(shell, '1.1.0');
      await root.write('data/bin/qx-node', program, 0o755);
      for (let starts = 1; starts <= 3; starts++) {
        await start(root);
        expect(await counter(root)).toBe(`${starts} 1.2.0`);
      }
      expect((await start(root)).stdout).toBe('backup 1.1.0 ');
      const reason = (await root.read('data/versions/qx-node.bad-reason')) ?? '';
      const [, ends = ''] = /^1\.2\.0 was started 3 times and never became healthy: (.*)\n$/.exec(reason) ?? [];
      expect(ends.split('; ')).toEqual([1, 2, 3].map(() => expect.stringMatching(end)));
    });

    test('a start that ended with the host leaves the count, and the others go on counting', async () => {
      await using root = await updatedHost(shell, '1.1.0');
      await start(root);
      for (let downs = 1; downs <= 9; downs++) {
        await powerCut(root);
        expect((await start(root)).stdout).toBe('data 1.2.0 ');
        expect(await counter(root)).toBe(`1 1.2.0 ${downs}`);
      }
      expect((await startTimes(root, 2)).stdout).toBe('data 1.2.0 ');
      expect(await counter(root)).toBe('3 1.2.0 9');
      expect((await start(root)).stdout).toBe('backup 1.1.0 ');
      const reason = (await root.read('data/versions/qx-node.bad-reason')) ?? '';
      expect(reason.split('; ')).toHaveLength(3);
    });

    test('one that the host never outlives is taken back after ten of them', async () => {
      await using root = await updatedHost(shell, '1.1.0');
      for (let boot = 1; boot <= 10; boot++) {
        expect((await start(root)).stdout).toBe('data 1.2.0 ');
        await powerCut(root);
      }
      expect((await start(root)).stdout).toBe('backup 1.1.0 ');
      expect(await root.read('data/versions/qx-node.bad-reason')).toBe(
        '1.2.0 was started 10 times and each time the host went down before it was healthy\n',
      );
      expect(await counter(root)).toBe('1 1.1.0');
    });

    test('one that is no program is not even started', async () => {
      await using root = await updatedHost(shell, '1.1.0');
      await root.write('data/bin/qx-node', 'not a program\n', 0o755);
      expect((await start(root)).stdout).toBe('backup 1.1.0 ');
      expect(await root.read('data/versions/qx-node.bad-reason')).toBe(
        '1.2.0 is no program that this host can execute\n',
      );
    });

    test("a backup that dies too is passed over, down to the image's own", async () => {
      await using root = await updatedHost(shell, '1.0.5', '1.1.0');
      expect((await startTimes(root, 7)).stdout).toBe('backup 1.0.5 ');
      expect((await startTimes(root, 3)).stdout).toBe('own ');
      expect(await root.read('data/versions/qx-node.bad')).toBe('1.2.0\n1.1.0\n1.0.5\n');
    });

    test('started-ok clears the count, also when the agent could not remove it', async () => {
      await using root = await updatedHost(shell);
      await startTimes(root, 3);
      await root.write('run/quantix/started-ok', '');
      expect((await start(root)).stdout).toBe('data 1.2.0 ');
      expect(await counter(root)).toBe('1 1.2.0');
      expect(await root.read('run/quantix/started-ok')).toBeNull();
    });

    test('told to end while it counts a start, it ends when that is done, and starts nothing', async () => {
      await using root = await updatedHost(shell);
      const gate = join(root.path, 'gate');
      await execa('mkfifo', [gate]);
      await using fifo = await open(gate, 'r+');
      const functions = 'usr/lib/quantix/functions.sh';
      const slow = 'mv() { : >"$QX_ROOT/moving"; read -r _ <"$QX_ROOT/gate"; command mv "$@"; }';
      await root.write(functions, `${await root.read(functions)}\necho $$ >"$QX_ROOT/pid"\n${slow}\n`);
      const running = start(root);
      await expect.poll(() => root.read('moving')).not.toBeNull();
      process.kill(Number(await root.read('pid')), 'SIGTERM');
      await fifo.write('\n'.repeat(50));
      expect(await running).toMatchObject({ exitCode: 0, stdout: '' });
      expect(await counter(root)).toBe('1 1.2.0');
    });

    test('a new version starts from nothing', async () => {
      await using root = await updatedHost(shell);
      await startTimes(root, 3);
      await putData(root, 'qx-node', '1.3.0-rc1');
      expect((await start(root)).stdout).toBe('data 1.3.0-rc1 ');
      expect(await counter(root)).toBe('1 1.3.0-rc1');
    });

    test('without a backup the bad version is marked and the image takes over', async () => {
      await using root = await updatedHost(shell);
      expect((await startTimes(root, 4)).stdout).toBe('own ');
      expect(await root.read('data/versions/qx-node.bad')).toBe('1.2.0\n');
    });

    test.each(['xx 1.2.0\n', '1 1.2.0 xx\n', '1 1.2.0 2 3\n', '1 1.2.0 99999\n'])(
      'a damaged count (%j) is taken for the worst',
      async (text) => {
        await using root = await updatedHost(shell, '1.1.0');
        await root.write('data/updates/node-starts', text);
        expect((await start(root)).stdout).toBe('backup 1.1.0 ');
      },
    );

    test('unfinished and foreign folders are no backup', async () => {
      await using root = await updatedHost(shell, '1.1.0');
      await putBackup(root, '.20261129T120000Z-1.9.0', '1.9.0');
      await putBackup(root, '20261129-1.9.0', '1.9.0');
      await root.write('data/updates/backup/qx-node/20261130T120000Z-1.9.0/qx-node', '', 0o755);
      expect((await startTimes(root, 4)).stdout).toBe('backup 1.1.0 ');
    });

    test.each([
      [
        '/data is full',
        async (root: HostRoot) => symlink('/dev/full', join(root.path, 'data/updates/node-starts.qx-new')),
      ],
      ['/data/updates cannot be written', async (root: HostRoot) => breakUpdates(root)],
    ])("the image's own runs when a start cannot be counted: %s", async (_, breakIt) => {
      await using root = await updatedHost(shell);
      await breakIt(root);
      expect((await start(root)).stdout).toBe('own ');
      expect(await root.read('data/versions/qx-node.bad')).toBeNull();
      expect(await root.read('dev/kmsg')).toContain('its start could not be counted');
    });

    test('cut off between the mark and the restore, the next start restores', async () => {
      await using root = await updatedHost(shell, '1.1.0');
      await root.write('data/versions/qx-node.bad', '1.2.0\n');
      expect((await start(root)).stdout).toBe('backup 1.1.0 ');
    });

    test("cut off between the binary and its version, the image's own runs rather than a binary under a wrong name", async () => {
      await using root = await updatedHost(shell);
      await root.write('data/versions/qx-node.bad', '1.2.0\n');
      await root.write('data/bin/qx-node', standIn('backup 1.1.0'), 0o755);
      expect((await start(root)).stdout).toBe('own ');
    });
  });
});

async function breakUpdates(root: HostRoot): Promise<void> {
  await rm(join(root.path, 'data/updates'), { recursive: true });
  await writeFile(join(root.path, 'data/updates'), '');
}
