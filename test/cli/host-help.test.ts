import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { VERBS } from '../../src/cli/host/verbs.ts';
import { hostFolder } from '../support/agent.ts';
import { runInProcess } from '../support/host-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

/** What every verb says of itself, and whether that is true. */

const verbs = Object.values(VERBS)
  .flat()
  .flatMap((row) =>
    'verbs' in row
      ? row.verbs.map((verb) => ({ verb, words: [row.name, verb.name] }))
      : [{ verb: row, words: [row.name] }],
  );

/** The words of each call of qx-update in lines of shell, as the shell itself takes them apart. */
async function callsIn(lines: readonly string[]): Promise<string[][]> {
  const home = await temporaryFolder();
  await mkdir(join(home, '.config/fish/completions'), { recursive: true });
  // One write for each call: two may run at the same time.
  const stubs = `jq() { :; }; curl() { :; }; source() { :; }
    qx-update() { local words; printf -v words '%s\\x1f' "$@"; printf '%s\\n' "$words" >&3; return "\${QX_EXIT:-0}"; }`;
  const script = lines.map((line) => `${line}\nQX_EXIT=4; ${line}\nQX_EXIT=0`).join('\n');
  const { stdio } = await execa('bash', ['-c', `${stubs}\n${script}`], {
    cwd: home,
    env: { HOME: home },
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    reject: false,
  });
  const calls = String(stdio[3]).split('\n').slice(0, -1);
  return [...new Set(calls)].map((call) => call.split('\x1f').slice(0, -1));
}

test('the issue is complete', () => {
  const names = verbs.map(({ words }) => words.join(' '));
  for (const name of [
    ...['status', 'check', 'plan', 'apply', 'current', 'rollback', 'confirm', 'mark', 'slots'],
    ...['download', 'cancel', 'reset', 'history', 'hold', 'unhold', 'verify', 'install', 'events', 'completion', 'log'],
    ...['config show', 'config check', 'config set', 'config unset', 'token show', 'token rotate', 'reboot'],
  ]) {
    expect(names).toContain(name);
  }
});

test.each(verbs)('$words explains itself', async ({ verb, words }) => {
  expect(verb.summary).toMatch(/^[A-Z].*[^.]$/);
  expect(verb.summary.length).toBeLessThan(90);
  expect(verb.notes).toMatch(/exit code/i);
  const help = await runInProcess([...words, '--help']);
  expect(help).toMatchObject({ exitCode: 0, stderr: '' });
  for (const said of [verb.notes, ...verb.examples, '--json', '--root']) expect(help.stdout).toContain(said);
  expect(verb.examples.length).toBeGreaterThan(0);
  const calls = await callsIn(verb.examples);
  const isOwn = (call: readonly string[]) => words.every((word, i) => call[i] === word || call[i] === `--${word}`);
  expect(calls.some(isOwn)).toBe(true);
});

test('every example, and every command in the README, is understood by a host without an agent', async () => {
  const host = await hostFolder();
  const readme = (await readFile('README.md', 'utf8')).match(/^qx-update .*|(?<=`)qx-update [a-z][^`]*/gm) ?? [];
  expect(readme.length).toBeGreaterThan(10);
  const calls = await callsIn([...verbs.flatMap(({ verb }) => verb.examples), ...readme]);
  expect(calls.length).toBeGreaterThan(50);
  for (const call of calls) {
    const { exitCode, stdout, stderr } = await runInProcess(['--root', host.path, ...call]);
    expect([call, /^error: |\[USAGE\]|"USAGE"/m.exec(stderr + stdout)?.[0]]).toEqual([call, undefined]);
    expect(exitCode).toEqual(expect.any(Number));
    if (call.includes('--json'))
      expect(JSON.parse(stdout)).toMatchObject({ schema: expect.stringMatching(/^qx-update\.[a-z]+\/1$/) });
  }
}, 120_000);

test('the help of the program names every verb, in groups', async () => {
  const { stdout } = await runInProcess(['--help']);
  for (const group of Object.keys(VERBS)) expect(stdout).toContain(`\n${group}:\n`);
  for (const { words } of verbs) expect(stdout).toMatch(new RegExp(`^  ${words[0]}\\b`, 'm'));
});

test.each([
  [['config']],
  [['config', 'chek']],
  [['token', 'shwo']],
  [['history', '--limit', 'all']],
  [['completion', 'csh']],
])('%j is a usage error that says what is possible', async (args) => {
  const { exitCode, stderr } = await runInProcess(args);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/Commands:|Did you mean|choices are|whole number/);
});
