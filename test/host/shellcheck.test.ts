import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { requires } from '../support/requires.ts';

const project = join(import.meta.dirname, '../..');
const isShell = (file: string): boolean =>
  /^#( shellcheck shell=sh|!\/bin\/sh|!\/sbin\/openrc-run)/.test(readFileSync(file, 'utf8'));
const scripts = globSync(
  ['openrc/*', 'local.d/*', 'examples/drain.d/*', 'scripts/*.sh', 'scripts/support/vm/guest/*', 'test/vm/faults/*'],
  {
    cwd: project,
  },
).filter((file) => file.endsWith('.sh') || isShell(join(project, file)));

requires({ commands: ['shellcheck', 'busybox', 'dash'] })('shell scripts', () => {
  test('there are the ones that a host needs', () => {
    expect(scripts).toEqual(
      expect.arrayContaining([
        'openrc/node-run',
        'openrc/node-watch',
        'openrc/reboot-guard',
        'openrc/quantix-deadline',
        'openrc/quantix-reboot',
        'openrc/quantix-node',
        'openrc/quantix-functions.sh',
        'local.d/03-ab-update-check.start',
        'local.d/05-overlay-mounts.start',
        'local.d/99-ab-update-verify.start',
        'examples/drain.d/libvirt',
        'scripts/install-host.sh',
      ]),
    );
  });

  test.each(scripts)('%s passes shellcheck and parses in both shells', async (script) => {
    const { all } = await execa('shellcheck', ['-x', script], { cwd: project, reject: false, all: true });
    expect(all).toBe('');
    await execa('busybox', ['ash', '-n', script], { cwd: project });
    await execa('dash', ['-n', script], { cwd: project });
  });
});
