import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { fleetTool } from '../support/fleet-tools.ts';
import { runInProcess } from '../support/host-tools.ts';
import { release } from '../support/release-tools.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

/** What the shells themselves offer after what was typed; the last word is the one that is being typed. */

async function scriptFor(shell: string, run = runInProcess): Promise<string> {
  const { exitCode, stdout } = await run(['completion', shell]);
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

async function offeredByBash(file: string, program: string, typed: string): Promise<string[]> {
  const name = `_${program.replace('-', '_')}`;
  const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ${name}; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await execa('bash', ['--norc', '-c', script, 'bash', file, program, ...typed.split(' ')]);
  return stdout.split('\n').filter((word) => word !== '');
}

requires({ commands: ['bash'] })('bash', () => {
  test('offers verbs, options and choices, and leaves values to itself', async () => {
    const file = await scriptFor('bash');
    for (const [typed, offered] of CASES) {
      const found = await offeredByBash(file, 'qx-update', typed);
      expect([typed, found.toSorted()]).toEqual([typed, offered.toSorted()]);
    }
  });

  test('the verbs of qx-release too, and the choices of their options', async () => {
    const file = await scriptFor('bash', release);
    expect(await offeredByBash(file, 'qx-release', 'pro')).toEqual(['promote']);
    expect(await offeredByBash(file, 'qx-release', 'keygen --kind d')).toEqual(['development']);
  });

  test('and those of qx-fleet, in their groups', async () => {
    const file = await scriptFor('bash', (args) => fleetTool(args));
    expect(await offeredByBash(file, 'qx-fleet', 'node in')).toEqual(['invite', 'invites']);
    expect(await offeredByBash(file, 'qx-fleet', 'operator add alice --role v')).toEqual(['viewer']);
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
