import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { block, goodA, trialB } from '../support/grub-block.ts';
import { type HostRoot, hostRequirements, hostRoot, putData, type Shell, shells } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

const verify = 'etc/local.d/99-ab-update-verify.start';
const own = 'usr/lib/quantix/bin/qx-node';

/** A trial boot of slot B whose own qx-update ends with the given exit code. */
async function trialHost(shell: Shell, exitCode: number): Promise<AsyncDisposable & { root: HostRoot }> {
  const root = await hostRoot(shell);
  await root.write('proc/cmdline', 'quantix.slot=B quantix.env=grubenv quantix.trial=trial0001\n');
  await root.write('boot/grub/grubenv', block(trialB));
  await root.write(own, `#!/bin/sh\necho "\${0##*/} $*" >>"$QX_ROOT/called"\nexit ${exitCode}\n`, 0o755);
  return {
    root,
    async [Symbol.asyncDispose]() {
      const pid = Number(await root.read('run/quantix/deadline.pid'));
      if (pid > 0) await execa('kill', [String(pid)], { reject: false });
      await root[Symbol.asyncDispose]();
    },
  };
}

requires(hostRequirements)('99-ab-update-verify.start', () => {
  describe.each(shells)('in $name', (shell) => {
    test("a healthy trial is confirmed through the image's own qx-update, never the one in /data", async () => {
      await using host = await trialHost(shell, 0);
      await putData(host.root, 'qx-node', '9.0.0', 'data');
      await host.root.run('etc/local.d/03-ab-update-check.start');
      const { exitCode, stdout } = await host.root.run(verify);
      expect(exitCode).toBe(0);
      expect(stdout).not.toContain('data');
      expect(await host.root.read('called')).toBe('qx-update confirm\n');
      expect(await host.root.read('run/quantix/confirmed')).toBe('trial0001\n');
      expect(await host.root.read('run/quantix/trial')).toBeNull();
      expect(await host.root.read('dev/kmsg')).toContain('trial trial0001 is confirmed');
    });

    test.each([1, 3, 7, 10, 127])('defect 27: exit code %i leaves the deadline to reboot', async (code) => {
      await using host = await trialHost(shell, code);
      const { exitCode } = await host.root.run(verify);
      expect(exitCode).toBe(1);
      expect(await host.root.read('run/quantix/confirmed')).toBeNull();
      expect(Number(await host.root.read('run/quantix/deadline.pid'))).toBeGreaterThan(1);
      expect(await host.root.read('dev/kmsg')).toContain(`not confirmed (exit code ${code})`);
    });

    test('an update lock that somebody holds for a while is waited for', async () => {
      await using host = await trialHost(shell, 0);
      await host.root.write(
        own,
        '#!/bin/sh\necho x >>"$QX_ROOT/called"\n[ "$(wc -l <"$QX_ROOT/called")" -ge 3 ] || exit 6\n',
        0o755,
      );
      expect((await host.root.run(verify, [], { QX_TICK_S: '0' })).exitCode).toBe(0);
      expect(await host.root.read('called')).toBe('x\nx\nx\n');
      await host.root.write(own, '#!/bin/sh\nexit 6\n', 0o755);
      expect((await host.root.run(verify, [], { QX_TICK_S: '0' })).exitCode).toBe(1);
    });

    test.each([
      ['missing', (root: HostRoot) => rm(join(root.path, own))],
      ['not executable', (root: HostRoot) => chmod(join(root.path, own), 0o644)],
      ['damaged', (root: HostRoot) => root.write(own, 'junk', 0o755)],
    ])('a qx-update that is %s confirms nothing', async (_, breakIt) => {
      await using host = await trialHost(shell, 0);
      await breakIt(host.root);
      expect((await host.root.run(verify)).exitCode).toBe(1);
      expect(await host.root.read('run/quantix/confirmed')).toBeNull();
      expect(Number(await host.root.read('run/quantix/deadline.pid'))).toBeGreaterThan(1);
    });

    test('"nothing to confirm" is a success when it was confirmed in this boot, and the environment says so', async () => {
      await using host = await trialHost(shell, 3);
      await host.root.write('boot/grub/grubenv', block({ ...goodA, order: 'B A', b_ok: '1' }));
      await host.root.write('run/quantix/confirmed', 'trial0001\n');
      expect((await host.root.run(verify)).exitCode).toBe(0);
      expect(await host.root.read('run/quantix/confirmed')).toBe('trial0001\n');
    });

    test.each([
      ['in no boot', null],
      ['in another trial', 'trial0002\n'],
    ])('an environment that says so is not enough where it was confirmed %s', async (_, confirmed) => {
      await using host = await trialHost(shell, 3);
      await host.root.write('boot/grub/grubenv', block({ ...goodA, order: 'B A', b_ok: '1' }));
      if (confirmed !== null) await host.root.write('run/quantix/confirmed', confirmed);
      expect((await host.root.run(verify)).exitCode).toBe(1);
    });

    test('an ordinary boot clears what a trial left, and asks how the host is without waiting for it', async () => {
      await using host = await trialHost(shell, 0);
      await host.root.write('proc/cmdline', 'quantix.slot=B quantix.env=grubenv\n');
      await host.root.write('run/quantix/trial', 'trial0001\n');
      await host.root.write('run/quantix/confirmed', 'trial0001\n');
      await host.root.write(own, `#!/bin/sh\nsleep 1\necho "\${0##*/} $*" >"$QX_ROOT/called"\necho not well\n`, 0o755);
      expect((await host.root.run(verify)).exitCode).toBe(0);
      expect(await host.root.read('called')).toBeNull();
      await expect.poll(() => host.root.read('called'), { timeout: 10_000 }).toBe('qx-update health --after-boot\n');
      await expect.poll(() => host.root.read('dev/kmsg'), { timeout: 10_000 }).toContain('<5>quantix: not well\n');
      expect(await host.root.read('run/quantix/trial')).toBeNull();
      expect(await host.root.read('run/quantix/confirmed')).toBeNull();
    });
  });
});
