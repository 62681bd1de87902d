import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Process } from '../../src/ports.ts';
import { openrc } from '../../src/system/openrc.ts';
import { hostProcess } from '../../src/system/process.ts';
import { type OpenrcRoot, openrcRequirements, withOpenrcRoot } from '../support/openrc.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const service = (body: string) => `#!/sbin/openrc-run\n${body}\n`;
const services: Readonly<Record<string, string>> = {
  counted: service('start() { echo x >>/harness/started; }'),
  // In the middle of its start it waits as long as somebody holds it there.
  slow: service(
    `supervisor=supervise-daemon\ncommand=/bin/sleep\ncommand_args=600\npidfile=/run/slow.pid
start_pre() { while [ -e /harness/hold ]; do sleep 0.1; done; }`,
  ),
  broken: service('start() { eerror "no licence"; return 1; }'),
  looping: service(
    'supervisor=supervise-daemon\ncommand=/bin/sleep\ncommand_args=0.2\nrespawn_max=0\npidfile=/run/l.pid',
  ),
  // As qx-console and the agent are: long after it died, OpenRC still calls it started.
  dying: service(
    'supervisor=supervise-daemon\ncommand=/bin/false\nrespawn_delay=600\nrespawn_max=0\npidfile=/run/d.pid',
  ),
  // What stays when the supervisor was killed: OpenRC says "unsupervised", nobody would start the agent again.
  watched: service('supervisor=supervise-daemon\ncommand=/bin/sleep\ncommand_args=600\npidfile=/run/watched.pid'),
};

async function prepare(path: string): Promise<void> {
  for (const [name, text] of Object.entries(services)) {
    writeFileSync(join(path, 'etc/init.d', name), text);
    chmodSync(join(path, 'etc/init.d', name), 0o755);
  }
}

/** What the agent would do inside that host: only the way into its namespaces is added. */
const inside = (root: OpenrcRoot): Process => ({
  run: async (argv) => {
    const { exitCode, output } = await root.run(argv[0], ...argv.slice(1));
    return { exitCode, stdout: output, stderr: '' };
  },
});

const counting = (process: Process, looks: { count: number }): Process => ({
  run: (argv, options) => {
    if (argv.includes('status')) looks.count += 1;
    return process.run(argv, options);
  },
});

requires(openrcRequirements)('services of a real OpenRC', () => {
  test('restart, stop, crash and failure look the way OpenRC tells them', async () => {
    await withOpenrcRoot({ prepare }, async (root) => {
      const { standIn, restart, state, instance } = openrc('', inside(root));
      expect(standIn).toBeNull();
      expect(await state('counted')).toBe('stopped');
      await restart('counted');
      await restart('counted');
      expect(await state('counted')).toBe('started');
      expect((await root.run('cat', '/harness/started')).output).toBe('x\nx');
      await root.run('rc-service', 'counted', 'stop');
      expect(await state('counted')).toBe('stopped');

      await expect(restart('broken')).rejects.toMatchObject({
        code: 'SERVICE_FAILED',
        message: expect.stringContaining('no licence'),
      });
      await expect(restart('no-such-service')).rejects.toMatchObject({ code: 'SERVICE_FAILED' });
      expect(await state('no-such-service')).toBe('unknown');

      await restart('watched');
      expect(await state('watched')).toBe('started');
      const first = await instance('watched');
      expect(first).not.toBe('');
      expect(await instance('watched')).toBe(first);
      await root.run('sh', '-c', 'kill -KILL "$(cat /run/watched.pid)"');
      await expect.poll(() => state('watched'), { timeout: 20_000 }).toBe('crashed');
    });
  });

  test('a service that is just being started, as after a boot, is restarted once that is done', async () => {
    await withOpenrcRoot({ prepare }, async (root) => {
      const looks = { count: 0 };
      const { restart, state, instance } = openrc('', counting(inside(root), looks));
      await root.run('touch', '/harness/hold');
      const starting = root.run('rc-service', 'slow', 'start');
      await expect.poll(async () => (await root.run('rc-service', 'slow', 'status')).output).toContain('starting');
      const restarted = restart('slow');
      await expect.poll(() => looks.count).toBeGreaterThan(2);
      await root.run('rm', '/harness/hold');
      await Promise.all([restarted, starting]);
      expect([await state('slow'), await instance('slow')]).toEqual(['started', expect.stringMatching(/\d/)]);
    });
  });

  test('a supervised service that dies over and over is started all the time, and another instance each time', async () => {
    await withOpenrcRoot({ prepare }, async (root) => {
      const { restart, state, instance } = openrc('', inside(root));
      await restart('looping');
      const first = await instance('looping');
      await expect.poll(() => instance('looping'), { timeout: 20_000 }).not.toBe(first);
      await expect.poll(() => state('looping')).toBe('started');
    });
  });

  test('a service whose supervisor waits before it starts it once more has crashed', async () => {
    await withOpenrcRoot({ prepare }, async (root) => {
      const { restart, state } = openrc('', inside(root));
      await restart('dying');
      await expect.poll(() => state('dying'), { timeout: 20_000 }).toBe('crashed');
      expect((await root.run('rc-service', 'dying', 'status')).exitCode).toBe(0);
    });
  });

  test('a service that died without its supervisor hearing of it has crashed', async () => {
    await withOpenrcRoot({ prepare }, async (root) => {
      const { restart, state } = openrc('', inside(root));
      await restart('watched');
      const child = '/run/openrc/options/watched/child_pid';
      await root.run('sh', '-c', `kill -STOP "$(cat /run/watched.pid)" && kill -KILL "$(cat ${child})"`);
      await expect.poll(() => state('watched'), { timeout: 20_000 }).toBe('crashed');
      expect((await root.run('rc-service', 'watched', 'status')).exitCode).toBe(0);
    });
  });

  test('a folder that holds OpenRC runs its own', async () => {
    await withOpenrcRoot({ prepare }, async ({ path }) => {
      const { standIn, restart, state } = openrc(path, hostProcess());
      expect(standIn).toBeNull();
      await restart('counted');
      expect(await state('counted')).toBe('started');
      await expect(restart('broken')).rejects.toMatchObject({ code: 'SERVICE_FAILED' });
    });
  });
});

describe('a folder without OpenRC', () => {
  test('says so, and runs nothing', async () => {
    const folder = await temporaryFolder();
    const never: Process = { run: () => Promise.reject(new Error('must not run')) };
    const { standIn, restart, state } = openrc(folder, never);
    expect(standIn).toContain('no OpenRC');
    await restart('quantix-node');
    expect(await state('quantix-node')).toBe('unknown');
  });

  test('a program below the folder is meant, never one of this machine', async () => {
    const folder = await temporaryFolder();
    mkdirSync(join(folder, 'sbin'));
    writeFileSync(join(folder, 'sbin/rc-service'), '');
    const ran: string[][] = [];
    const { restart } = openrc(folder, {
      run: async (argv) => {
        ran.push([...argv]);
        return { exitCode: 0, stdout: '', stderr: '' };
      },
    });
    await restart('x');
    expect(ran).toEqual(
      process.getuid?.() === 0 ? ['status', 'restart'].map((word) => ['chroot', folder, 'rc-service', 'x', word]) : [],
    );
  });
});
