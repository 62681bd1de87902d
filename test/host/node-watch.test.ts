import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type HostRoot, hostRequirements, hostRoot, putData, type Shell, shells } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

const TICK = { QX_TICK_S: '1' };
const HEALTHY = '>"$QX_ROOT/run/quantix/started-ok"';
const BEAT = 'echo "$i" >"$QX_ROOT/run/quantix/heartbeat"';

/** A host whose agent in /data, or else the image's own, is this script. */
async function hostWith(shell: Shell, script: string, whose: 'data' | 'own' = 'data'): Promise<HostRoot> {
  const root = await hostRoot(shell);
  await root.write('etc/conf.d/quantix-node', 'hang_s=2\nstart_s=5\n');
  if (whose === 'data') await putData(root, 'qx-node', '1.2.0');
  const path = whose === 'data' ? 'data/bin/qx-node' : 'usr/lib/quantix/bin/qx-node';
  await root.write(path, `#!/bin/sh\n${script}\n`, 0o755);
  await root.write('data/updates/.keep', '');
  return root;
}

const endOf = (root: HostRoot) => root.read('run/quantix/node-end');

/** Runs node-run until its agent has ended by itself or was ended. */
const live = (root: HostRoot) => root.run('usr/lib/quantix/node-run', [], TICK);

/** The watchers that belong to this root. */
async function watchersOf(root: HostRoot): Promise<string[]> {
  const found = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name));
  const lines = await Promise.all(
    found.map(async (pid) => [pid, await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')]),
  );
  return lines
    .filter(([, line]) => line?.includes(join(root.path, 'usr/lib/quantix/node-watch')))
    .map(([pid]) => pid ?? '');
}

const watchedBy = async (watcher: string): Promise<string> =>
  (await readFile(`/proc/${watcher}/cmdline`, 'latin1')).split('\0')[2] ?? '';

async function filesOf(pid: string): Promise<string[]> {
  const numbers = await readdir(`/proc/${pid}/fd`);
  return Promise.all(numbers.map((number) => fileOf(pid, number)));
}

const fileOf = (pid: string, number: string): Promise<string> => readlink(`/proc/${pid}/fd/${number}`).catch(() => '');

requires(hostRequirements)('node-watch', () => {
  describe.each(shells)('in $name', (shell) => {
    test('ends an agent that hangs at its start; after three the version is given up, and the reason says why', async () => {
      await using root = await hostWith(shell, 'exec sleep 1000');
      for (let start = 1; start <= 3; start++) {
        await live(root);
        expect(await endOf(root)).toBe('ended by the watcher: gave no sign of life for 2 s\n');
      }
      expect((await live(root)).stdout).toBe('own ');
      const end = 'ended by the watcher: gave no sign of life for 2 s';
      expect(await root.read('data/versions/qx-node.bad-reason')).toBe(
        `1.2.0 was started 3 times and never became healthy: ${end}; ${end}; ${end}\n`,
      );
    });

    test('ends an agent that lives and never becomes healthy', async () => {
      await using root = await hostWith(shell, `i=0; while :; do i=$((i + 1)); ${BEAT}; sleep 1; done`);
      await live(root);
      expect(await endOf(root)).toBe('ended by the watcher: was not healthy within 5 s\n');
    });

    test('ends an agent that was healthy and hangs later', async () => {
      await using root = await hostWith(shell, `${HEALTHY}; i=1; ${BEAT}; exec sleep 1000`);
      await live(root);
      expect(await endOf(root)).toBe('ended by the watcher: gave no sign of life for 2 s\n');
    });

    test.each([
      ['is healthy and has no heartbeat, as older ones', `${HEALTHY}; exec sleep 7`, 'data'],
      ['goes on giving signs of life', `${HEALTHY}; for i in 1 2 3 4 5 6 7; do ${BEAT}; sleep 1; done`, 'data'],
      ['says so by no longer being counted', 'rm "$QX_ROOT/data/updates/node-starts"; exec sleep 7', 'data'],
      ["is the image's own, and busy repairing the host", 'exec sleep 7', 'own'],
    ] as const)('leaves an agent alone that %s', async (_, script, whose) => {
      await using root = await hostWith(shell, script, whose);
      expect((await live(root)).exitCode).toBe(0);
      expect(await endOf(root)).toBeNull();
    });

    test('leaves an agent alone that somebody has stopped, and ends with it', async () => {
      await using root = await hostWith(shell, 'kill -STOP $$; exit 7');
      const running = live(root);
      await sleep(5000);
      const [watcher = ''] = await watchersOf(root);
      process.kill(Number(await watchedBy(watcher)), 'SIGCONT');
      expect(await running).toMatchObject({ exitCode: 7 });
      expect(await endOf(root)).toBeNull();
      await expect.poll(() => watchersOf(root), { timeout: 10_000 }).toEqual([]);
    });

    test('holds nothing of the agent, and is no child of it', async () => {
      await using root = await hostWith(shell, 'cat /proc/$$/task/$$/children; exec sleep 4');
      const running = live(root);
      await expect.poll(() => watchersOf(root), { timeout: 10_000 }).toHaveLength(1);
      const [watcher = ''] = await watchersOf(root);
      const agent = await watchedBy(watcher);
      const [held, ...agents] = await Promise.all([
        filesOf(watcher),
        ...['0', '1', '2'].map((fd) => fileOf(agent, fd)),
      ]);
      expect(agents).toContainEqual(expect.stringMatching(/^(pipe|socket):/));
      expect(held.filter((path) => path !== '/dev/null' && agents.includes(path))).toEqual([]);
      // The command that prints it is all that there is.
      expect((await running).stdout.trim()).toMatch(/^[0-9]+$/);
    });

    test('never ends a later process of the same number', async () => {
      await using root = await hostWith(shell, 'exit 0');
      const other = execa('sleep', ['1000'], { reject: false });
      onTestFinished(() => void other.kill());
      expect(await root.run('usr/lib/quantix/node-watch', [String(other.pid), '1', 'counted'], TICK)).toMatchObject({
        exitCode: 0,
      });
      // Throws when there is no such process.
      process.kill(other.pid ?? 0, 0);
    });
  });
});
