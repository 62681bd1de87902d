import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type HostRoot, hostRequirements, hostRoot, putData, type Shell, shells } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';
import { type ShellClock, shellClock } from '../support/shell-clock.ts';

const TICK = { QX_TICK_S: '1' };
const HEALTHY = '>"$QX_ROOT/run/quantix/started-ok"';
/** Until the test ends it, or the watcher does. */
const LIVES = 'exec tail -f /dev/null';

interface Watched extends HostRoot {
  readonly clock: ShellClock;
  beat(count: number): Promise<void>;
}

/** A host whose agent in /data, or else the image's own, is this script. */
async function hostWith(shell: Shell, script: string, whose: 'data' | 'own' = 'data'): Promise<Watched> {
  const root = await hostRoot(shell);
  const clock = await shellClock(root);
  await root.write('etc/conf.d/quantix-node', 'hang_s=2\nstart_s=5\n');
  if (whose === 'data') await putData(root, 'qx-node', '1.2.0');
  const path = whose === 'data' ? 'data/bin/qx-node' : 'usr/lib/quantix/bin/qx-node';
  await root.write(path, `#!/bin/sh\n${script}\n`, 0o755);
  await root.write('data/updates/.keep', '');
  return { ...root, clock, beat: (count) => root.write('run/quantix/heartbeat', `${count}\n`) };
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

/** The only watcher, once it looks, and its agent. */
async function watching(root: Watched): Promise<{ readonly watcher: string; readonly agent: number }> {
  await root.clock.pass(0);
  const [watcher = ''] = await watchersOf(root);
  return { watcher, agent: Number(await watchedBy(watcher)) };
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
      await using root = await hostWith(shell, LIVES);
      await root.clock.give(100);
      for (let start = 1; start <= 3; start++) {
        await live(root);
        expect(await endOf(root)).toBe('ended by the watcher: gave no sign of life for 2 s\n');
      }
      expect((await live(root)).stdout).toBe('own ');
      const end = 'ended by the watcher: gave no sign of life for 2 s';
      expect(await root.read('data/versions/qx-node.bad-reason')).toBe(
        `1.2.0 was started 3 times and never became healthy: ${end}; ${end}; ${end}\n`,
      );
      await untilUnwatched(root);
    });

    test('ends an agent that lives and never becomes healthy', async () => {
      await using root = await hostWith(shell, LIVES);
      const running = live(root);
      for (let look = 1; look < 5; look++) {
        await root.beat(look);
        await root.clock.pass(1);
        expect(await endOf(root)).toBeNull();
      }
      await root.beat(5);
      await root.clock.give(2);
      await running;
      expect(await endOf(root)).toBe('ended by the watcher: was not healthy within 5 s\n');
      await untilUnwatched(root);
    });

    test('kills what does not end when it is told to', async () => {
      await using root = await hostWith(shell, `trap "" TERM; ${LIVES}`);
      const running = live(root);
      for (let look = 1; look <= 5; look++) {
        await root.beat(look);
        await root.clock.pass(1);
      }
      expect((await root.clock.asked()).at(-1)).toBe('2');
      await root.clock.give(1);
      await running;
      expect(await endOf(root)).toBe('ended by the watcher: was not healthy within 5 s\n');
      await untilUnwatched(root);
    });

    test('ends an agent that was healthy and hangs later', async () => {
      await using root = await hostWith(shell, `${HEALTHY}; ${LIVES}`);
      const running = live(root);
      for (let look = 1; look < 5; look++) {
        await root.beat(look);
        await root.clock.pass(1);
      }
      await root.clock.give(3);
      await running;
      expect(await endOf(root)).toBe('ended by the watcher: gave no sign of life for 2 s\n');
      await untilUnwatched(root);
    });

    test.each([
      ['is healthy and has no heartbeat, as older ones', `${HEALTHY}; ${LIVES}`, 'data', false],
      ['goes on giving signs of life', `${HEALTHY}; ${LIVES}`, 'data', true],
      ['says so by no longer being counted', `rm "$QX_ROOT/data/updates/node-starts"; ${LIVES}`, 'data', false],
      ["is the image's own, and busy repairing the host", LIVES, 'own', false],
    ] as const)('leaves an agent alone that %s', async (_, script, whose, beats) => {
      await using root = await hostWith(shell, script, whose);
      const running = live(root);
      const { agent } = await watching(root);
      await untilReady(root, script);
      for (let look = 1; look <= 7; look++) {
        if (beats) await root.beat(look);
        await root.clock.pass(1);
      }
      expect(await endOf(root)).toBeNull();
      process.kill(agent, 'SIGTERM');
      await running;
      await untilUnwatched(root);
      expect(await endOf(root)).toBeNull();
    });

    test('leaves an agent alone that somebody has stopped, and ends with it', async () => {
      await using root = await hostWith(shell, 'kill -STOP $$; exit 7');
      const running = live(root);
      const { agent } = await watching(root);
      await expect.poll(() => readFile(`/proc/${agent}/stat`, 'latin1')).toMatch(/^[0-9]+ \(.*\) T /);
      await root.clock.pass(7);
      process.kill(agent, 'SIGCONT');
      expect(await running).toMatchObject({ exitCode: 7 });
      await untilUnwatched(root);
      expect(await endOf(root)).toBeNull();
    });

    test('holds nothing of the agent, and is no child of it', async () => {
      await using root = await hostWith(shell, `cat /proc/$$/task/$$/children; ${LIVES}`);
      const running = live(root);
      const { watcher, agent } = await watching(root);
      const [held, ...agents] = await Promise.all([
        filesOf(watcher),
        ...['0', '1', '2'].map((fd) => fileOf(String(agent), fd)),
      ]);
      expect(agents).toContainEqual(expect.stringMatching(/^(pipe|socket):/));
      expect(held.filter((path) => path !== '/dev/null' && agents.includes(path))).toEqual([]);
      await expect.poll(() => readFile(`/proc/${agent}/cmdline`, 'latin1')).toContain('tail');
      process.kill(agent, 'SIGTERM');
      await untilUnwatched(root);
      // The command that prints it is all that there is.
      expect((await running).stdout.trim()).toMatch(/^[0-9]+$/);
    });

    test('never ends a later process of the same number', async () => {
      await using root = await hostWith(shell, 'exit 0');
      await root.clock.give(100);
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

/** A watcher notices by its next look that its agent is gone. */
async function untilUnwatched(root: Watched): Promise<void> {
  await expect.poll(async () => [await root.clock.give(1), await watchersOf(root)][1]).toEqual([]);
}

/** The agent has come to where it only lives. */
const untilReady = async (root: Watched, script: string): Promise<void> => {
  if (script.includes('started-ok')) await expect.poll(() => root.read('run/quantix/started-ok')).toBe('');
  if (script.includes('node-starts')) await expect.poll(() => root.read('data/updates/node-starts')).toBeNull();
};
