import { globSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { block, goodA } from '../support/grub-block.ts';
import { hostRequirements, installer, isThere, type Ran, type Shell, shells, standIn } from '../support/host-root.ts';
import { requires } from '../support/requires.ts';

interface Target extends AsyncDisposable {
  readonly path: string;
  install(...args: string[]): Promise<Ran>;
  file(name: string): string;
  text(name: string): Promise<string>;
}

async function target(shell: Shell): Promise<Target> {
  const folder = await mkdtemp(join(tmpdir(), 'quantix-install-'));
  const path = join(folder, 'root');
  await writeFile(join(folder, 'qx-node'), standIn('own'), { mode: 0o755 });
  const [program, ...before] = shell.command;
  const file = (name: string): string => join(path, name);
  return {
    path,
    file,
    text: (name) => readFile(file(name), 'latin1'),
    async install(...args) {
      const fixed = args.includes('--executable') ? args : ['--executable', join(folder, 'qx-node'), ...args];
      const ran = await execa(program, [...before, installer, ...fixed], { reject: false });
      return { exitCode: ran.exitCode ?? 1, stdout: ran.stdout, stderr: ran.stderr };
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

const allFiles = (path: string): readonly string[] =>
  globSync('**', { cwd: path, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();

async function snapshot(path: string): Promise<readonly string[]> {
  return Promise.all(
    allFiles(path).map(async (file) => {
      const { ino, mode } = await stat(file);
      return `${file} ${ino} ${mode} ${await readFile(file, 'latin1')}`;
    }),
  );
}

requires(hostRequirements)('install-host.sh', () => {
  describe.each(shells)('in $name', (shell) => {
    test('puts scripts, programs, versions and boot files in their places', async () => {
      await using host = await target(shell);
      const { exitCode, stdout } = await host.install(
        '--root',
        host.path,
        '--version',
        '1.2.0-rc1',
        '--slot-a',
        'hd0,gpt2',
        '--slot-b',
        'hd0,gpt3',
      );
      expect(exitCode).toBe(0);
      expect(stdout).toContain('Quantix host 1.2.0-rc1 is in');
      for (const name of [
        'etc/init.d/quantix-node',
        'etc/local.d/03-ab-update-check.start',
        'usr/lib/quantix/node-run',
      ]) {
        expect((await stat(host.file(name))).mode & 0o777).toBe(0o755);
      }
      expect(await host.text('etc/quantix-version')).toBe('1.2.0-rc1\n');
      expect(await host.text('usr/share/quantix/versions/qx-node.version')).toBe('1.2.0-rc1\n');
      expect((await execa(host.file('usr/lib/quantix/bin/qx-fleet'), ['nodes'])).stdout).toBe('own nodes');
      expect(await host.text('boot/grub/quantix-layout.cfg')).toBe(
        'set qx_slot_a="hd0,gpt2"\nset qx_slot_b="hd0,gpt3"\n',
      );
      expect(await host.text('usr/lib/quantix/grub.cfg')).toBe(await host.text('boot/grub/grub.cfg'));
      expect((await stat(host.file('etc/limiquantix/node.yaml'))).mode & 0o777).toBe(0o600);
    });

    test('defect 22: both environment copies are whole, sealed and hold what grub.cfg reads', async () => {
      await using host = await target(shell);
      await host.install('--root', host.path, '--version', '1.0.0');
      expect(await host.text('boot/grub/grubenv')).toBe(block(goodA));
      expect(await host.text('boot/grub/grubenv.bak')).toBe(block(goodA));
    });

    test('defect 28: local, quantix-boot and quantix-node are enabled', async () => {
      await using host = await target(shell);
      await host.install('--root', host.path, '--version', '1.0.0', '--no-console');
      const enabled = (
        await execa('ls', ['boot', 'default', 'shutdown', 'sysinit'], { cwd: host.file('etc/runlevels') })
      ).stdout;
      expect(enabled).toBe(
        'boot:\nquantix-boot\n\ndefault:\nlocal\nquantix-node\n\nshutdown:\nquantix-reboot\n\nsysinit:\nquantix-deadline',
      );
      await host.install('--root', host.path);
      expect(await isThere(host.file('etc/init.d/quantix-console'))).toBe(true);
    });

    test('run again it changes nothing', async () => {
      await using host = await target(shell);
      await host.install('--root', host.path, '--version', '1.0.0', '--slot-a', 'hd0,gpt2', '--slot-b', 'hd0,gpt3');
      const before = await snapshot(host.path);
      const { exitCode, stdout } = await host.install(
        '--root',
        host.path,
        '--slot-a',
        'hd1,gpt2',
        '--slot-b',
        'hd1,gpt3',
      );
      expect(exitCode).toBe(0);
      expect(stdout).not.toMatch(/installed|made|enabled/);
      expect(await snapshot(host.path)).toEqual(before);
    });

    test('keeps what an operator changed, and puts the new one beside it', async () => {
      await using host = await target(shell);
      await host.install('--root', host.path, '--version', '1.0.0');
      await writeFile(host.file('etc/limiquantix/node.yaml'), 'updates: {enabled: false}\n');
      await writeFile(host.file('etc/init.d/quantix-node'), '#!/sbin/openrc-run\n# mine\n');
      await writeFile(host.file('boot/grub/grubenv'), block({ ...goodA, a_ok: '0' }));
      await rm(host.file('etc/runlevels/default/quantix-console'));
      const { stdout } = await host.install('--root', host.path, '--version', '1.1.0');
      expect(await host.text('etc/limiquantix/node.yaml')).toBe('updates: {enabled: false}\n');
      expect(await host.text('etc/init.d/quantix-node')).toContain('# mine');
      expect(await host.text('etc/init.d/quantix-node.quantix-new')).toContain('supervise-daemon');
      expect(stdout).toMatch(/kept .*quantix-node, which was changed/);
      expect(await host.text('boot/grub/grubenv')).toBe(block({ ...goodA, a_ok: '0' }));
      expect(await isThere(host.file('etc/runlevels/default/quantix-console'))).toBe(false);
      expect(await host.text('etc/quantix-version')).toBe('1.1.0\n');
    });

    test('an older version of ours that nobody changed is renewed', async () => {
      await using host = await target(shell);
      await host.install('--root', host.path, '--version', '1.0.0');
      const older = '#!/sbin/openrc-run\n# an older one of ours\n';
      await writeFile(host.file('etc/init.d/quantix-node'), older);
      const { stdout: hash } = await execa('sh', ['-c', 'sha256sum | cut -c1-64'], { input: older });
      await writeFile(host.file('usr/share/quantix/installed'), `${hash}  init.d/quantix-node\n`, { flag: 'a' });
      await host.install('--root', host.path);
      expect(await host.text('etc/init.d/quantix-node')).toContain('supervise-daemon');
    });

    test.each([
      ['no root', [], 2, 'give --root DIR'],
      ['an unknown option', ['--rooot', 'x'], 2, 'unknown option --rooot'],
      ['an option without its value', ['--root'], 2, '--root needs a value'],
      ['a version that is none', ['--root', 'ROOT', '--version', 'v1'], 2, 'v1 is not a version'],
      [
        'no executable',
        ['--root', 'ROOT', '--version', '1.0.0', '--executable', '/nowhere'],
        1,
        'no executable /nowhere',
      ],
      [
        'an executable that is none',
        ['--root', 'ROOT', '--version', '1.0.0', '--executable', '/etc/passwd'],
        1,
        'not an executable program',
      ],
      ['one slot only', ['--root', 'ROOT', '--version', '1.0.0', '--slot-a', 'hd0,gpt2'], 2, 'go together'],
      [
        'a slot that is GRUB script',
        ['--root', 'ROOT', '--version', '1.0.0', '--slot-a', 'hd0; reboot', '--slot-b', 'x'],
        2,
        'not a GRUB device',
      ],
    ])('refuses %s with the reason', async (_, args, code, reason) => {
      await using host = await target(shell);
      const { exitCode, stderr } = await host.install(...args.map((arg) => (arg === 'ROOT' ? host.path : arg)));
      expect(stderr).toContain(reason);
      expect(exitCode).toBe(code);
      expect(await isThere(host.file('etc/init.d'))).toBe(false);
    });

    test('refuses a root that is a file', async () => {
      await using host = await target(shell);
      await writeFile(host.path, '');
      await chmod(host.path, 0o444);
      const { exitCode, stderr } = await host.install('--root', host.path, '--version', '1.0.0');
      expect(exitCode).toBe(1);
      expect(stderr).toContain(`cannot write to ${host.path}`);
    });
  });

  test('--help shows examples', async () => {
    const { stdout } = await execa(installer, ['--help']);
    expect(stdout).toContain('Examples:');
  });

  test('the default settings are YAML with the keys of the documents', async () => {
    const { updates } = parse(await readFile(join(import.meta.dirname, '../../openrc/node.yaml'), 'utf8'));
    expect(updates).toEqual({
      enabled: true,
      channel: 'dev',
      check_interval: '1h',
      auto_check: true,
      auto_apply: false,
      auto_reboot: false,
    });
  });
});
