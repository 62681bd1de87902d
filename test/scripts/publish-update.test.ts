import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/format/manifest.ts';
import { makeImage } from '../support/images.ts';
import { release } from '../support/release-tools.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';
import { startServer, TOKEN } from '../support/update-server.ts';

const scripts = join(import.meta.dirname, '../../scripts');

async function desk() {
  const dir = await temporaryFolder();
  const at = (name: string): string => join(dir, name);
  await release(['keygen', '--key-id', 'dev-1', '--out', dir, '--keyring', at('keyring.json')]);
  await writeFile(at('qx-node'), '#!/bin/sh\necho a stand-in for the agent\n', { mode: 0o755 });
  await mkdir(at('served'));
  const env = { QX_SIGNING_KEY: at('dev-1.private.json'), QX_KEYRING: at('keyring.json') };
  const run = (script: string, args: readonly string[], more: Record<string, string> = {}) =>
    execa(join(scripts, script), args, {
      cwd: dir,
      env: { PATH: process.env.PATH ?? '', ...env, ...more },
      extendEnv: false,
      reject: false,
    });
  const publish = (args: readonly string[], more?: Record<string, string>) =>
    run('publish-update.sh', ['--executable', at('qx-node'), '--out', at('out'), ...args], more);
  const manifest = async () => readManifest(JSON.parse(await readFile(at('out/manifest.json'), 'utf8')));
  return { at, run, publish, manifest };
}

describe('publish-update.sh', () => {
  test('without options: all components, to dev, under a version of its own', async () => {
    const { at, publish, manifest } = await desk();
    const server = await startServer({ RELEASE_DIR: at('served'), KEYRING: at('keyring.json') });
    expect(await publish(['--server', server.url, '--token', TOKEN])).toMatchObject({ exitCode: 0 });
    const { version, channel, components } = await manifest();
    expect(channel).toBe('dev');
    expect(version).toMatch(/^\d+\.\d+\.\d+-dev\.\d{14}$/);
    expect(components.map(({ name, kind, install_path }) => [name, kind, install_path])).toEqual([
      ['qx-node', 'file', '/data/bin/qx-node'],
      ['qx-console', 'file', '/data/bin/qx-console'],
      ['host-ui', 'directory', '/data/share/quantix-host-ui'],
    ]);
    const served = await fetch(`${server.url}/api/v1/quantix-os/releases/${version}/host-ui.tar.zst?channel=dev`);
    expect(Buffer.from(await served.arrayBuffer()).equals(await readFile(at('out/host-ui.tar.zst')))).toBe(true);
  });

  test('a dry run, of one component: sends nothing and needs neither server nor token', async () => {
    const { at, publish, manifest } = await desk();
    const ran = await publish([
      '--dry-run',
      '--component',
      'qx-console',
      '--version',
      '1.2.0',
      '--server',
      'http://127.0.0.1:1',
    ]);
    expect(ran).toMatchObject({ exitCode: 0 });
    expect(ran.stdout).toContain('nothing was sent');
    expect((await manifest()).components.map((c) => c.name)).toEqual(['qx-console']);
    expect((await readdir(at('out'))).sort()).toEqual(['manifest.json', 'manifest.signed.json', 'qx-console.tar.zst']);
  });

  test('removes from its folder what it made before, and nothing else', async () => {
    const { at, publish } = await desk();
    await mkdir(at('out'));
    await writeFile(at('out/qx-node.tar.zst'), 'of last time');
    await writeFile(at('out/thesis.txt'), 'mine');
    await publish(['--dry-run', '--component', 'qx-console']);
    expect(await readdir(at('out'))).not.toContain('qx-node.tar.zst');
    expect(await readFile(at('out/thesis.txt'), 'utf8')).toBe('mine');
  });

  test('passes on the exit code, and never says the token', async () => {
    const { publish } = await desk();
    const token = 'a-token-that-nobody-may-see-0123456789';
    const ran = await publish([
      '--component',
      'qx-console',
      '--server',
      'http://[::1]:1',
      '--channel',
      'beta',
      '--version',
      '1.0.0',
      '--token',
      token,
    ]);
    // The key may sign for dev only: refused before anything is sent.
    expect(ran).toMatchObject({ exitCode: 7 });
    expect(ran.stdout + ran.stderr).not.toContain(token);
  });

  test.each([
    [['--frobnicate']],
    [['--channel']],
    [['--channel', 'nightly']],
    [['--channel', 'stable']],
    [['--component', 'guest-agent']],
    [['--component', 'controlplane=.']],
    [['--product', 'quantix-vdc']],
    [['--product', 'quantix-tv']],
    [['--component', '../x']],
  ])('%j is a usage error', async (args) => {
    const { at, publish } = await desk();
    expect(await publish(args)).toMatchObject({ exitCode: 2, stdout: '' });
    expect(await readdir(at('.'))).not.toContain('out');
  });

  test('says which key is missing', async () => {
    const { publish } = await desk();
    const ran = await publish([], { QX_SIGNING_KEY: '' });
    expect(ran).toMatchObject({ exitCode: 2 });
    expect(ran.stderr).toContain('--key FILE');
  });

  // As the documents write them.
  test.each([
    [[], ['qx-node', 'qx-console', 'host-ui'], /-dev\.\d{14}$/],
    [['--channel', 'beta', '--component', 'qx-node'], ['qx-node'], /-beta\.\d{14}$/],
  ])('%j, with nothing but what is in the environment', async (args, names, version) => {
    const { at, publish, manifest } = await desk();
    await release([
      'keygen',
      '--key-id',
      'beta-1',
      '--channels',
      'beta',
      '--out',
      at('.'),
      '--keyring',
      at('keyring.json'),
    ]);
    const server = await startServer({ RELEASE_DIR: at('served'), KEYRING: at('keyring.json') });
    const key = args.length === 0 ? {} : { QX_SIGNING_KEY: at('beta-1.private.json') };
    expect(await publish(args, { ...key, QX_SERVER: server.url, PUBLISH_TOKEN: TOKEN })).toMatchObject({ exitCode: 0 });
    expect((await manifest()).components.map((c) => c.name)).toEqual(names);
    expect((await manifest()).version).toMatch(version);
  });

  test('a dry run needs no key, and says that nothing was signed', async () => {
    const { at, publish } = await desk();
    const ran = await publish(['--dry-run'], { QX_SIGNING_KEY: '', QX_KEYRING: '' });
    expect(ran).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('nothing was signed and nothing was sent'),
    });
    expect(await readdir(at('out'))).toContain('manifest.json');
    expect(await readdir(at('out'))).not.toContain('manifest.signed.json');
  });

  test('a component of the vDC is packed from where it was built', async () => {
    const { at, publish, manifest } = await desk();
    await writeFile(at('controlplane'), 'a program', { mode: 0o755 });
    const given = [
      '--product',
      'quantix-vdc',
      '--version',
      '2.0.0',
      '--component',
      `controlplane=${at('controlplane')}`,
    ];
    expect(await publish(['--dry-run', ...given])).toMatchObject({ exitCode: 0 });
    expect(await manifest()).toMatchObject({ product: 'quantix-vdc', version: '2.0.0' });
    expect((await manifest()).components.map((c) => c.name)).toEqual(['controlplane']);
  });
});

requires({ commands: ['mksquashfs'] })('generate-manifest.sh', () => {
  test('describes the archives of a folder', async () => {
    const { at, run, publish, manifest } = await desk();
    await publish(['--dry-run']);
    await copyFile((await makeImage(at('.'), 'image')).path, at('out/system.squashfs'));
    const ran = await run('generate-manifest.sh', ['--version', '2.0.0', '--channel', 'stable', at('out')]);
    expect(ran).toMatchObject({ exitCode: 0 });
    const { version, channel, update_type, components, full_image } = await manifest();
    expect([version, channel, update_type, full_image?.artifact]).toEqual([
      '2.0.0',
      'stable',
      'full',
      'system.squashfs',
    ]);
    expect(components.map((c) => c.name)).toEqual(['qx-node', 'qx-console', 'host-ui']);
  });

  test('a dry run prints it and writes nothing', async () => {
    const { at, run, publish, manifest } = await desk();
    await publish(['--dry-run', '--version', '1.0.0']);
    const args = [
      '--version',
      '2.0.0',
      '--component',
      'qx-node',
      '--dry-run',
      '--server',
      'x',
      '--token',
      'y',
      at('out'),
    ];
    const { stdout } = await run('generate-manifest.sh', args);
    expect(readManifest(JSON.parse(stdout))).toMatchObject({ version: '2.0.0', components: [{ name: 'qx-node' }] });
    expect((await manifest()).version).toBe('1.0.0');
  });

  test.each([[[]], [['--version']], [['--version', '1.0.0', '--product', 'x']], [['-x']]])('%j', async (args) => {
    const { run } = await desk();
    expect((await run('generate-manifest.sh', args)).exitCode).not.toBe(0);
  });
});

test.each(['publish-update.sh', 'generate-manifest.sh'])('%s --help', async (script) => {
  const { stdout, exitCode } = await execa(join(scripts, script), ['--help']);
  expect(exitCode).toBe(0);
  for (const option of ['--channel', '--component', '--version', '--dry-run', '--server', '--token']) {
    expect(stdout).toContain(option);
  }
});
