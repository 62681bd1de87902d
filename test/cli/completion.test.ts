import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { runInProcess } from '../support/host-tools.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

/** What the shells themselves offer after what was typed; the last word is the one that is being typed. */

async function scriptFor(shell: string): Promise<string> {
  const { exitCode, stdout } = await runInProcess(['completion', shell]);
  expect(exitCode).toBe(0);
  const file = join(await temporaryFolder(), 'completion');
  await writeFile(file, stdout);
  return file;
}

const CASES: readonly (readonly [string, readonly string[]])[] = [
  ['stat', ['status']],
  ['con', ['confirm', 'config']],
  ['config s', ['show', 'set']],
  ['config set --r', ['--root']],
  ['mark good o', ['other']],
  ['--root /tmp tok', ['token']],
  ['completion ', ['bash', 'zsh', 'fish', '--json', '--root', '--socket', '--help']],
  ['apply --allow-downgrade --re', ['--reboot']],
  ['history --limit ', []],
];

requires({ commands: ['bash'] })('bash', () => {
  test('offers verbs, options and choices, and leaves values to itself', async () => {
    const file = await scriptFor('bash');
    for (const [typed, offered] of CASES) {
      const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _qx_update; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const words = ['qx-update', ...typed.split(' ')];
      const { stdout } = await execa('bash', ['--norc', '-c', script, 'bash', file, ...words]);
      expect([
        typed,
        stdout
          .split('\n')
          .filter((word) => word !== '')
          .sort(),
      ]).toEqual([typed, offered.toSorted()]);
    }
  });
});

requires({ commands: ['fish'] })('fish', () => {
  test('offers the same', async () => {
    const file = await scriptFor('fish');
    for (const [typed, offered] of CASES.filter(([typed]) => !typed.endsWith(' '))) {
      const { stdout } = await execa('fish', ['--no-config', '-c', `source ${file}; complete -C 'qx-update ${typed}'`]);
      const words = stdout.split('\n').map((line) => line.split('\t')[0] ?? '');
      expect([typed, words.filter((word) => word !== '')]).toEqual([typed, expect.arrayContaining([...offered])]);
    }
  });
});

requires({ commands: ['zsh'] })('zsh', () => {
  test('takes the script in', async () => {
    const file = await scriptFor('zsh');
    const script = `autoload -U compinit && compinit -u -D && source ${file} && print -r -- \${_comps[qx-update]}`;
    expect((await execa('zsh', ['-f', '-c', script])).stdout).toBe('_qx_update');
  });
});
