import { constants } from 'node:fs';
import { chmod, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { block, trialB } from '../support/grub-block.ts';
import { installer, isThere } from '../support/host-root.ts';
import { bootOpenrcRoot, kernelLog, type OpenrcRoot, openrcRequirements, withOpenrcRoot } from '../support/openrc.ts';
import { requires } from '../support/requires.ts';

/** Stays up like the agent, and is the gate when it is called by that name. */
const agent = (version: string): string => `#!/bin/sh
case $0 in
  *qx-update) echo "gate of ${version}"; exit "$(cat /gate 2>/dev/null || echo 0)" ;;
  *) echo "agent ${version} is up, umask $(umask)"; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done ;;
esac
`;

const built = join(import.meta.dirname, '../../dist/host');
const onTrial = 'quantix.slot=B quantix.env=grubenv quantix.trial=trial0001';
const log = (root: OpenrcRoot): Promise<string> => readFile(join(root.path, 'var/log/quantix-node.log'), 'utf8');

async function put(path: string, file: string, text: string, mode = 0o644): Promise<void> {
  await mkdir(dirname(join(path, file)), { recursive: true });
  await writeFile(join(path, file), text);
  await chmod(join(path, file), mode);
}

/** Installs with the real script onto the harness's root, which has no terminal for the console. */
async function install(path: string): Promise<void> {
  await put(path, 'tmp/qx-node', agent('1.0.0'), 0o755);
  const fixed = ['--executable', join(path, 'tmp/qx-node'), '--version', '1.0.0', '--no-console'];
  await execa(installer, ['--root', path, ...fixed]);
  await mkdir(join(path, 'data'));
  // Five seconds between two starts are right for a host and long for a test.
  await put(path, 'etc/conf.d/quantix-node', 'respawn_delay=1\n');
}

/** 0 when no agent runs. */
const agentPid = async (root: OpenrcRoot): Promise<number> => {
  const { output } = await root.run('ps', '-o', 'pid,args');
  return Number(/^ *(\d+) .*\/sh .*bin\/qx-node/m.exec(output)?.[1] ?? 0);
};

// Each has a host of its own, and most of them wait for it.
requires(openrcRequirements)('a host under OpenRC', () => {
  test.concurrent('boots: quantix-boot, quantix-node and local are started, the agent runs with umask 077', ({
    expect,
  }) =>
    withOpenrcRoot({ prepare: install, cmdline: 'quantix.slot=A quantix.env=grubenv' }, async (root) => {
      for (const service of ['quantix-boot', 'quantix-node', 'local']) {
        const { exitCode, output } = await root.run('rc-service', service, 'status');
        expect(`${service}: ${output}`).toContain('started');
        expect(exitCode).toBe(0);
      }
      await expect.poll(() => log(root)).toContain('agent 1.0.0 is up, umask 0077');
      expect(await kernelLog(root.path)).toContain("qx-node: the image's own");
      expect((await root.run('stat', '-c', '%a', '/var/log/quantix-node.log')).output).toBe('600');
      expect((await root.run('readlink', '-f', '/usr/bin/qx-update')).output).toBe('/usr/lib/quantix/bin/qx-node');
    }));

  test.concurrent('T37 the token is in no core dump, because the agent leaves none', ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await expect.poll(() => log(root)).toContain('is up');
      const limits = await root.run('sh', '-c', 'cat /proc/$(cat /run/quantix-node.pid)/limits');
      expect(limits.output).toMatch(/^Max core file size +0 +0 /m);
      expect(limits.output).toMatch(/^Max open files +4096 +4096 /m);
    }));

  test.concurrent('the log is one that the supervisor appends to, so that the agent can cut it in place', ({
    expect,
  }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await expect.poll(() => log(root)).toContain('is up');
      const fdinfo = await root.run('sh', '-c', `cat /proc/${await agentPid(root)}/fdinfo/1`);
      expect(Number.parseInt(/^flags:\s*([0-7]+)/m.exec(fdinfo.output)?.[1] ?? '0', 8) & constants.O_APPEND).not.toBe(
        0,
      );
      await root.run('sh', '-c', ': >/var/log/quantix-node.log');
      await root.run('sh', '-c', 'kill "$(cat /run/quantix-node.pid)"; rc-service quantix-node restart');
      await expect.poll(() => log(root), { timeout: 30_000 }).toContain('is up');
      expect(await log(root)).not.toContain('\0');
    }));

  test.concurrent('an agent that is killed comes back, and stop means stop', ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await expect.poll(() => agentPid(root)).toBeGreaterThan(1);
      const first = await agentPid(root);
      await root.run('kill', '-9', String(first));
      await expect.poll(() => agentPid(root), { timeout: 10_000 }).toBeGreaterThan(first);
      expect((await root.run('rc-service', 'quantix-node', 'status')).exitCode).toBe(0);

      expect((await root.run('rc-service', 'quantix-node', 'stop')).exitCode).toBe(0);
      expect((await root.run('rc-service', 'quantix-node', 'status')).exitCode).toBe(3);
      expect(await agentPid(root)).toBe(0);
    }));

  test.concurrent('an update that dies on each start is taken back by the supervisor alone', ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await put(root.path, 'data/bin/qx-node', '#!/bin/sh\necho "agent 1.2.0 dies"\nexit 1\n', 0o755);
      await put(root.path, 'data/versions/qx-node.version', '1.2.0\n');
      await put(root.path, 'data/updates/backup/qx-node/20261120T000000Z-1.1.0/qx-node', agent('1.1.0'), 0o755);
      await root.run('rc-service', 'quantix-node', 'restart');
      await expect.poll(() => log(root), { timeout: 20_000 }).toContain('agent 1.1.0 is up');
      expect((await log(root)).match(/agent 1\.2\.0 dies/g)).toHaveLength(3);
      expect(await readFile(join(root.path, 'data/versions/qx-node.bad'), 'utf8')).toBe('1.2.0\n');
      expect((await root.run('rc-service', 'quantix-node', 'status')).exitCode).toBe(0);
    }));

  test.concurrent('an update that hangs is ended by its watcher, and started again by the supervisor', ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await put(root.path, 'etc/conf.d/quantix-node', 'respawn_delay=1\nhang_s=5\n');
      await put(root.path, 'data/bin/qx-node', '#!/bin/sh\necho "agent 1.2.0 hangs"\nexec sleep 1000\n', 0o755);
      await put(root.path, 'data/versions/qx-node.version', '1.2.0\n');
      await root.run('rc-service', 'quantix-node', 'restart');
      await expect.poll(async () => (await log(root)).match(/1\.2\.0 hangs/g)?.length).toBe(2);
      expect(await kernelLog(root.path)).toContain('qx-node gave no sign of life for 5 s: it is ended');
      expect(await readFile(join(root.path, 'data/updates/node-starts'), 'utf8')).toBe(
        '2 1.2.0\nended by the watcher: gave no sign of life for 5 s\n',
      );
    }));

  test.concurrent('clean exits, as after a self-update, are started again without end', ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await root.run('rc-service', 'quantix-node', 'stop');
      await put(root.path, 'usr/lib/quantix/bin/qx-node', '#!/bin/sh\necho "one more"\nexit 0\n', 0o755);
      await root.run('rc-service', 'quantix-node', 'start');
      // Debian's default limit would have ended this at ten.
      await expect
        .poll(async () => (await log(root)).match(/one more/g)?.length, { timeout: 40_000, interval: 500 })
        .toBeGreaterThan(10);
    }));

  test.concurrent('ordered restarts are no crashes: they never take an update back', ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await put(root.path, 'data/bin/qx-node', agent('1.2.0'), 0o755);
      await put(root.path, 'data/versions/qx-node.version', '1.2.0\n');
      for (let i = 0; i < 5; i++) expect((await root.run('rc-service', 'quantix-node', 'restart')).exitCode).toBe(0);
      await expect.poll(() => readFile(join(root.path, 'data/updates/node-starts'), 'utf8')).toBe('1 1.2.0\n');
      expect(await isThere(join(root.path, 'data/versions/qx-node.bad'))).toBe(false);
    }));

  test.concurrent("with /data mounted read-only the image's own runs", ({ expect }) =>
    withOpenrcRoot({ prepare: install }, async (root) => {
      await put(root.path, 'data/bin/qx-node', agent('1.2.0'), 0o755);
      await put(root.path, 'data/versions/qx-node.version', '1.2.0\n');
      await root.run('sh', '-c', 'mount --bind /data /data && mount -o remount,bind,ro /data');
      await root.run('rc-service', 'quantix-node', 'restart');
      await expect.poll(() => log(root), { timeout: 10_000 }).toContain('its start could not be counted');
      await expect
        .poll(() => root.run('readlink', '/run/quantix/bin/qx-node').then(({ output }) => output))
        .toBe('/usr/lib/quantix/bin/qx-node');
    }));

  const trial = async (path: string, gate: number): Promise<void> => {
    await install(path);
    await put(path, 'gate', String(gate));
    await put(path, 'boot/grub/grubenv', block(trialB));
    await put(path, 'etc/conf.d/quantix-boot', 'deadline_s=3\ngrace_s=1\ndisks_s=2\n');
    await cp(join(path, 'tmp/qx-node'), join(path, 'data/bin/qx-node'), { recursive: true });
  };

  test.concurrent('defects 27 and 28: local runs the gate; a trial that passes it stays up', ({ expect }) =>
    withOpenrcRoot({ prepare: (path) => trial(path, 0), cmdline: onTrial }, async (root) => {
      expect(await kernelLog(root.path)).toContain('trial trial0001 is confirmed');
      expect(await readFile(join(root.path, 'boot/grub/grubenv.bak'), 'latin1')).toBe(block(trialB));
      await expect.poll(() => isThere(join(root.path, 'run/quantix/deadline.pid'))).toBe(false);
      expect(await Promise.race([root.ended, 'up'])).toBe('up');
      expect(await kernelLog(root.path)).not.toContain('rebooting');
    }));

  test.concurrent('defects 27 and 28: a trial that fails the gate is rebooted by the deadline', ({ expect }) =>
    withOpenrcRoot({ prepare: (path) => trial(path, 7), cmdline: onTrial }, async (root) => {
      expect(await kernelLog(root.path)).toContain('not confirmed (exit code 7)');
      await root.ended;
      expect(await kernelLog(root.path)).toContain('trial trial0001 was not confirmed in 3 s (deadline_s): rebooting');
    }));

  test.concurrent('a reboot that a service holds up comes to its end all the same', ({ expect }) =>
    withOpenrcRoot(
      {
        prepare: async (path) => {
          await install(path);
          await put(path, 'etc/conf.d/quantix-boot', 'reboot_s=1\ndisks_s=2\n');
          const stuck = '#!/sbin/openrc-run\nstart() { :; }\nstop() { sleep 1000; }\n';
          await put(path, 'etc/init.d/stuck', stuck, 0o755);
          await symlink('/etc/init.d/stuck', join(path, 'etc/runlevels/default/stuck'));
        },
      },
      async (root) => {
        await root.run('sh', '-c', 'setsid /usr/lib/quantix/reboot-guard </dev/null >/dev/null 2>&1 & reboot');
        await root.ended;
        expect(await kernelLog(root.path)).toContain('the reboot did not come to its end in 1 s (reboot_s)');
      },
    ));

  test.concurrent('a reboot that hangs when all services have stopped and all processes are killed comes to its end', ({
    expect,
  }) =>
    withOpenrcRoot(
      {
        prepare: async (path) => {
          await install(path);
          await put(path, 'etc/conf.d/quantix-boot', 'disks_s=2\n');
          const last = {
            killprocs:
              '#!/sbin/openrc-run\nstart() { kill_all 15; kill_all 9; echo "quantix: all killed" >/dev/kmsg; }\n',
            'mount-ro': '#!/sbin/openrc-run\ndepend() { after killprocs; }\nstart() { sleep 1000; }\n',
          };
          for (const [service, script] of Object.entries(last)) {
            await put(path, `etc/init.d/${service}`, script, 0o755);
            await symlink(`/etc/init.d/${service}`, join(path, 'etc/runlevels/shutdown', service));
          }
        },
      },
      async (root) => {
        // The first one still has time when it is killed, however busy this machine is.
        await root.run('sh', '-c', 'setsid /usr/lib/quantix/reboot-guard </dev/null >/dev/null 2>&1 &');
        await expect.poll(() => isThere(join(root.path, 'run/quantix/reboot-guard'))).toBe(true);
        await root.run('sh', '-c', 'echo 1 >/run/quantix/reboot-guard; reboot');
        await root.ended;
        expect(await kernelLog(root.path)).toContain('all killed');
      },
    ));

  test.concurrent('the console takes its terminal, and says which one is missing', async ({ expect }) => {
    await using root = await bootOpenrcRoot({ prepare: install });
    await put(root.path, 'etc/conf.d/quantix-console', 'QX_CONSOLE_TTY=/dev/tty99\n');
    const missing = await root.run('rc-service', 'quantix-console', 'start');
    expect(missing.exitCode).toBe(1);
    expect(missing.output).toContain('There is no terminal /dev/tty99');

    await put(root.path, 'etc/conf.d/quantix-console', 'QX_CONSOLE_TTY=/dev/null\n');
    expect((await root.run('rc-service', 'quantix-console', 'start')).exitCode).toBe(0);
    await expect.poll(() => root.run('ps', '-o', 'args').then(({ output }) => output)).toContain('bin/qx-console');
    const { output } = await root.run('qx-console', '--once');
    expect(output).toMatch(/quantix-node +started/);
  });

  test.concurrent.for(['default', 'boot', 'sysinit'])(
    'a service of the runlevel %s that hangs keeps no trial from its deadline',
    (runlevel, { expect }) =>
      expect(
        withOpenrcRoot(
          {
            cmdline: onTrial,
            prepare: async (path) => {
              await trial(path, 0);
              await put(path, 'etc/init.d/hanging', '#!/sbin/openrc-run\nstart() { sleep 1000; }\n', 0o755);
              await symlink('/etc/init.d/hanging', join(path, 'etc/runlevels', runlevel, 'hanging'));
            },
          },
          async () => 'booted',
        ),
      ).rejects.toMatchObject({ cause: { message: 'it ended while booting' } }),
  );
});

requires({ ...openrcRequirements, files: { [join(built, 'bin/qx-node')]: 'npm run build -- --host' } })(
  'the built executable on a host',
  () => {
    test('starts in a root of BusyBox, under each of its names', () =>
      withOpenrcRoot(
        {
          prepare: async (path) => {
            await execa(installer, [
              '--root',
              path,
              '--version',
              '1.0.0',
              '--no-console',
              '--executable',
              join(built, 'bin/qx-node'),
              '--rt',
              join(built, 'rt'),
            ]);
          },
        },
        async (root) => {
          for (const name of ['qx-node', 'qx-update', 'qx-update-server', 'qx-release', 'qx-fleet']) {
            const { exitCode, output } = await root.run(`/usr/bin/${name}`, '--version');
            expect(output).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+`));
            expect(exitCode).toBe(0);
          }
        },
      ));
  },
);
