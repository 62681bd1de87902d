import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hostRequirements, hostRoot, putData, shells, standIn } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

const consolePath = 'usr/lib/quantix/bin/qx-console';
const launcher = 'usr/lib/quantix/qx-console-launcher';

requires(hostRequirements)('qx-console', () => {
  describe.each(shells)('in $name', (shell) => {
    test('shows name, version, slot, services and what the agent says about updates', async () => {
      await using root = await hostRoot(shell, '1.4.0');
      await root.write('proc/sys/kernel/hostname', 'host-7\n');
      await root.write('proc/uptime', '90061.5 1.0\n');
      await root.write('usr/lib/quantix/bin/qx-node', standIn('up to date'), 0o755);
      const { exitCode, stdout } = await root.run(consolePath, ['--once']);
      expect(exitCode).toBe(0);
      expect(stdout).toContain('Quantix-OS 1.4.0');
      expect(stdout).toMatch(/Host +host-7/);
      expect(stdout).toMatch(/Slot +A \(running\)/);
      expect(stdout).toMatch(/Up +1 d 1 h 1 min/);
      expect(stdout).toMatch(/quantix-node +\S/);
      expect(stdout).toContain('up to date status');
    });

    test('asks the chosen program first, and works when neither runs', async () => {
      await using root = await hostRoot(shell);
      await root.write('run/quantix/bin/qx-update', standIn('chosen'), 0o755);
      expect((await root.run(consolePath, ['--once'])).stdout).toContain('chosen status');
      await root.write('run/quantix/bin/qx-update', '#!/bin/sh\nexit 10\n', 0o755);
      await root.write('usr/lib/quantix/bin/qx-node', '#!/bin/sh\nexit 10\n', 0o755);
      const { exitCode, stdout } = await root.run(consolePath, ['--once']);
      expect(exitCode).toBe(0);
      expect(stdout).toContain('the agent does not answer');
    });

    test('tells a trial, a fallback and safe mode', async () => {
      await using root = await hostRoot(shell);
      await root.write('proc/cmdline', 'quantix.slot=B quantix.safe\n');
      await root.write('run/quantix/trial', 'trial0001\n');
      await root.write('run/quantix/fallback', 'trial0000 A\n');
      const { stdout } = await root.run(consolePath, ['--once']);
      expect(stdout).toContain('B (on trial, not confirmed yet), safe mode');
      expect(stdout).toContain('failed (trial trial0000)');
    });

    test('lets nobody steer the terminal', async () => {
      await using root = await hostRoot(shell);
      await root.write('etc/quantix-version', '\x1b[2J1.0.0\x07\n');
      await root.write('run/quantix/bin/qx-update', "#!/bin/sh\nprintf 'red\\033[31m\\n'\n", 0o755);
      const { stdout } = await root.run(consolePath, ['--once']);
      expect(stdout).not.toContain('\x1b');
      expect(stdout).not.toContain('\x07');
      expect(stdout).toContain('red[31m');
    });

    test('answers --version with the version of this project, --help with examples, anything else with 2', async () => {
      await using root = await hostRoot(shell);
      const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../../package.json'), 'utf8'));
      expect((await root.run(consolePath, ['--version'])).stdout).toBe(version);
      expect((await root.run(consolePath, ['--help'])).stdout).toContain('Examples:');
      for (const args of [['--what'], ['--interval'], ['--interval', '0'], ['--interval', 'x']]) {
        expect((await root.run(consolePath, args)).exitCode).toBe(2);
      }
    });

    test("the launcher prefers /data's when it is newer and starts, else the image's own", async () => {
      await using root = await hostRoot(shell);
      expect((await root.run(launcher, ['--version'])).stdout).toBe('0.1.0');
      await putData(root, 'qx-console', '1.1.0');
      expect((await root.run(launcher, ['--once'])).stdout).toBe('data 1.1.0 --once');
      await root.write('data/bin/qx-console', '#!/bin/sh\nexit 1\n', 0o755);
      expect((await root.run(launcher, ['--version'])).stdout).toBe('0.1.0');
      await root.write('proc/cmdline', 'quantix.safe\n');
      await putData(root, 'qx-console', '1.2.0');
      expect((await root.run(launcher, ['--version'])).stdout).toBe('0.1.0');
    });

    test('the launcher says when its terminal is not there', async () => {
      await using root = await hostRoot(shell);
      const { exitCode, stderr } = await root.run(launcher, ['--tty', '/dev/nowhere']);
      expect(exitCode).toBe(1);
      expect(stderr).toContain('no terminal /dev/nowhere');
    });
  });
});
