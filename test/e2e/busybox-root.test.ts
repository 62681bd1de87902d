import { chmod, copyFile, cp, mkdir, mkdtemp, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { FETCH_ID } from '../../src/system/fetch/rights.ts';
import { isolatedHttp } from '../../src/system/isolated-http.ts';
import { badServer, drip } from '../support/bad-server.ts';
import { recordedLog } from '../support/fakes.ts';
import { proc, theFetcherOf } from '../support/fetchers.ts';
import { requires } from '../support/requires.ts';

const names = ['qx-node', 'qx-update', 'qx-update-server', 'qx-release', 'qx-fleet'];

const needs = {
  root: true,
  commands: ['chroot', 'mount', 'umount', 'busybox', 'ldd'],
  files: { 'dist/host/bin/qx-node': 'npm run build -- --host' },
};

requires(needs)('a root that holds BusyBox, /proc and what we ship', () => {
  const made: { root?: string } = {};
  const inRoot = (...command: string[]) =>
    execa('chroot', [String(made.root), ...command], {
      reject: false,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      extendEnv: false,
    });

  beforeAll(async () => {
    const root = await mkdtemp(join(tmpdir(), 'busybox-root-'));
    made.root = root;
    for (const folder of ['bin', 'proc', 'usr/lib/quantix']) await mkdir(join(root, folder), { recursive: true });
    const { stdout: busybox } = await execa('sh', ['-c', 'command -v busybox']);
    await copyFile(busybox, join(root, 'bin/busybox'));
    await chmod(join(root, 'bin/busybox'), 0o755);
    await cp('dist/host', join(root, 'usr/lib/quantix'), { recursive: true, verbatimSymlinks: true });
    await execa('mount', ['-t', 'proc', 'proc', join(root, 'proc')]);
  });

  afterAll(async () => {
    if (made.root === undefined) return;
    await execa('umount', [join(made.root, 'proc')]);
    await rm(made.root, { recursive: true });
  });

  test('has no C library but ours', async () => {
    const { stdout: found } = await inRoot('/bin/busybox', 'find', '/', '-xdev', '-name', '*.so*');
    const folders = new Set(found.split('\n').map((path) => dirname(path)));
    expect([...folders]).toEqual(['/usr/lib/quantix/rt']);
    const { stdout: linkage } = await execa('ldd', [join(String(made.root), 'bin/busybox')], { reject: false });
    expect(linkage).not.toContain('=>');
    expect((await inRoot('/bin/busybox', 'ls', '/')).stdout.split('\n')).toEqual(['bin', 'proc', 'usr']);
  });

  test.each(names)('%s answers --version and --help', async (name) => {
    const program = `/usr/lib/quantix/bin/${name}`;
    const version = await inRoot(program, '--version');
    expect(version).toMatchObject({ exitCode: 0, stderr: '' });
    expect(version.stdout).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\\S* \\(keyring: \\S+\\)$`));
    const help = await inRoot(program, '--help');
    expect(help).toMatchObject({ exitCode: 0, stderr: '' });
    expect(help.stdout).toContain(`Usage: ${name}`);
  });

  test('it fetches there as nobody that the root knows, started by its own setpriv', async () => {
    const bytes = new Uint8Array(50_000).fill(7);
    const { url } = await badServer(drip(bytes, 40_000, 100));
    const inside = ['/bin/busybox', 'setpriv', '--no-new-privs', '/usr/lib/quantix/bin/qx-node'];
    const program = ['/usr/sbin/chroot', String(made.root), ...inside];
    const http = isolatedHttp({ program, log: recordedLog() });
    onTestFinished(() => http.close());
    const limits = { connectTimeoutMs: 20_000, headersTimeoutMs: 20_000, minBytesPerWindow: 1, windowMs: 60_000 };
    const { body } = await http.get(url, { limits: { ...limits, maxBytes: bytes.length } });
    const pid = await theFetcherOf(process.pid);
    expect(await readlink(`/proc/${pid}/root`)).toBe(made.root);
    const status = await proc(pid, 'status');
    expect(status).toMatch(new RegExp(`^Uid:(\\t${FETCH_ID}){4}$`, 'm'));
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    const chunks = body[Symbol.asyncIterator]();
    expect((await chunks.next()).value?.[0]).toBe(7);
    await chunks.return?.();
  });

  test('the name it is called by counts, not the file behind the link', async () => {
    const command =
      'cd /usr/lib/quantix && PATH=$PWD/bin && qx-release --version && exec -a qx-fleet bin/qx-node --version';
    const { stdout } = await inRoot('/bin/busybox', 'sh', '-c', command);
    expect(stdout.split('\n').map((line) => line.split(' ')[0])).toEqual(['qx-release', 'qx-fleet']);
  });
});
