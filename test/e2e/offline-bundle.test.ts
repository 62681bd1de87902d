import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { hostFolder } from '../support/agent.ts';
import { built, type ProgramName } from '../support/built.ts';
import { temporaryFolder } from '../support/temp.ts';

/** A release on a stick, from the keyboard of its engineer to a host without a network, with the built executable. */

const ran = (program: ProgramName, ...args: readonly string[]) =>
  execa(built(program), args, { reject: false, env: { PATH: process.env.PATH ?? '' }, extendEnv: false });

test('a release on a stick: what qx-release bundle makes, qx-update install takes, and a flipped bit it does not', async () => {
  const folder = await temporaryFolder();
  const at = (name: string): string => join(folder, name);
  await writeFile(at('qx-console'), 'the console of the stick\n', { mode: 0o755 });
  const made = async (...args: readonly string[]): Promise<void> => {
    expect(await ran('qx-release', ...args)).toMatchObject({ exitCode: 0 });
  };
  await made('keygen', '--key-id', 'stick', '--kind', 'development', '--out', folder, '--keyring', at('keyring.json'));
  await made('pack', at('qx-console'), '--name', 'qx-console', '--out', folder);
  const component = `qx-console=${at('qx-console.tar.zst')}`;
  await made(
    'manifest',
    '--version',
    '1.1.0',
    '--channel',
    'dev',
    '--component',
    component,
    '--out',
    at('manifest.json'),
  );
  await made('sign', at('manifest.json'), '--key', at('stick.private.json'));
  const files = [at('manifest.signed.json'), at('qx-console.tar.zst')];
  const bundle = ['bundle', ...files, '--keyring', at('keyring.json'), '--out', at('stick.qxb')];
  // As behind `2>&1 | head -1`: whoever read the progress is gone before it is over.
  const unheard = execa(built('qx-release'), bundle, { reject: false, buffer: false });
  unheard.stderr.destroy();
  unheard.stdout.destroy();
  expect(await unheard).toMatchObject({ exitCode: 0 });
  await rm(at('stick.qxb'));
  await made(...bundle);

  // A server that nobody runs: it is not asked.
  const host = await hostFolder(['server_url: http://127.0.0.1:1', 'keyring: /etc/keyring.json']);
  await host.write('etc/keyring.json', await readFile(at('keyring.json'), 'utf8'));
  const agent = execa(built('qx-node'), ['--root', host.path], { reject: false, all: true, env: {}, extendEnv: false });
  onTestFinished(async () => {
    agent.kill('SIGKILL');
    await agent;
  });
  await expect
    .poll(async () => (await ran('qx-update', '--root', host.path, 'status')).exitCode, { timeout: 30_000 })
    .toBe(0);

  const bytes = await readFile(at('stick.qxb'));
  const spoilt = Uint8Array.from(bytes);
  spoilt[700] = (spoilt[700] ?? 0) ^ 1;
  await writeFile(at('spoilt.qxb'), spoilt);
  expect(await ran('qx-update', '--root', host.path, 'install', at('spoilt.qxb'))).toMatchObject({ exitCode: 7 });
  expect(await readFile(join(host.path, 'data/bin/qx-console'), 'utf8')).toBe('the old console\n');

  const installed = await ran('qx-update', '--root', host.path, 'install', at('stick.qxb'), '--json');
  expect(installed).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('"schema":"qx-update.install/1"') });
  // Nothing comes from a network, and nothing says so.
  expect(installed.stderr).toContain('"label":"reading ');
  expect(installed.stderr).not.toContain('downloading');
  expect(await readFile(join(host.path, 'data/bin/qx-console'), 'utf8')).toBe('the console of the stick\n');
  const log = JSON.parse((await ran('qx-update', '--root', host.path, 'log', '--json')).stdout);
  expect(log.events.filter(({ code }: { code?: string }) => code !== undefined)).toHaveLength(1);
});
