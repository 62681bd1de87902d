import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

/** README's way of a release, typed as it stands there, in a checkout of its own and a network in which every port is free. */

const NOT_COPIED = ['node_modules', 'dist', '.git', 'build', 'host', 'releases', 'keys', 'state'];

async function checkout(): Promise<string> {
  const folder = join(await temporaryFolder(), 'quantix');
  await mkdir(folder);
  for (const name of await readdir('.')) {
    if (!NOT_COPIED.includes(name)) await cp(name, join(folder, name), { recursive: true });
  }
  await symlink(resolve('node_modules'), join(folder, 'node_modules'));
  return folder;
}

async function blocks(): Promise<string[]> {
  const readme = await readFile('README.md', 'utf8');
  const [, section = ''] = /^## A release, from the keyboard to a rack$(.*?)^Every verb/ms.exec(readme) ?? [];
  return [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block);
}

requires({ root: true, commands: ['unshare', 'ip', 'curl', 'openssl', 'git'] })(
  'the way of a release in README.md',
  () => {
    test('is what happens when somebody types it', { timeout: 300_000 }, async () => {
      const [install = '', ...others] = await blocks();
      expect(others).toHaveLength(2);
      // The packages are those of this checkout: what test.sh begins with.
      expect(install).toMatch(/^npm ci && npm run build/);
      const folder = await checkout();
      const git = (...line: string[]) => execa('git', line, { cwd: folder });
      const typed = ['set -e', 'ip link set lo up', install.replace('npm ci && ', ''), ...others, 'echo the end'];
      await writeFile(join(folder, 'typed.sh'), typed.join('\n'));
      await git('init', '-q');
      await git('add', '-A');
      // With the first process of their own, whatever was started in the background ends with it.
      const args = ['--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', 'typed.sh'];
      const { exitCode, all } = await execa('unshare', args, {
        cwd: folder,
        reject: false,
        all: true,
        stdin: 'ignore',
      });
      expect([exitCode, all]).toEqual([0, expect.stringMatching(/the end$/)]);
      expect(all).toMatch(/^0\.1\.0 -> 0\.1\.1-dev\.\d{14} on channel dev/m);
      expect(all).toMatch(/^Updated to version 0\.1\.1-dev\.\d{14}\.$/m);
      expect(all).toMatch(/^Rolled back from 0\.1\.1-dev\.\d{14} to 0\.1\.0\.$/m);
      // What it leaves is nothing that somebody commits.
      expect((await git('ls-files', '--others', '--exclude-standard')).stdout).toBe('');
    });
  },
);
