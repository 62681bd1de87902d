import { mkdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freshState, markFailed } from '../../src/core/boot.ts';
import { decodeBoot, ENV_BYTES, encodeBoot } from '../../src/format/grubenv.ts';
import type { Process } from '../../src/ports.ts';
import { grubBoot } from '../../src/system/grub.ts';
import { temporaryFolder } from '../support/temp.ts';

const noProcess: Process = {
  run: async () => {
    throw new Error('a host in a folder must run nothing');
  },
};
const block = encodeBoot(freshState('A'));

async function host() {
  const root = await temporaryFolder();
  await mkdir(join(root, 'boot', 'grub'), { recursive: true });
  return { root, boot: grubBoot(root, noProcess), path: join(root, 'boot', 'grub', 'grubenv') };
}

test('a copy is made once, and afterwards overwritten in the same file', async () => {
  const { boot, path } = await host();
  expect(await boot.read('grubenv')).toBeNull();
  await boot.write('grubenv', block);
  const { ino } = await stat(path);
  const next = encodeBoot(markFailed(freshState('A'), 'B', 'trial0001'));
  await boot.write('grubenv', next);
  expect((await stat(path)).ino).toBe(ino);
  expect(await boot.read('grubenv')).toEqual(next);
});

test('the two copies are files of their own', async () => {
  const { boot } = await host();
  await boot.write('grubenv.bak', block);
  expect([await boot.read('grubenv'), await boot.read('grubenv.bak')]).toEqual([null, block]);
});

test('a larger file keeps its size, and what it said behind our end is gone', async () => {
  const { boot, path } = await host();
  await writeFile(path, `${'#'.repeat(ENV_BYTES)}\nquantix_order=B A\n`.padEnd(8192, 'x'));
  await boot.write('grubenv', block);
  const after = new Uint8Array(await readFile(path));
  expect(after).toHaveLength(8192);
  expect(decodeBoot(after)).toEqual(freshState('A'));
});

test('a shorter file grows', async () => {
  const { boot, path } = await host();
  await writeFile(path, block.subarray(0, 1024));
  await boot.write('grubenv', block);
  expect(new Uint8Array(await readFile(path))).toEqual(block);
});

test('a symlink under the name of a copy is not followed', async () => {
  const { root, boot, path } = await host();
  await writeFile(join(root, 'precious'), 'precious');
  await symlink(join(root, 'precious'), path);
  await expect(boot.write('grubenv', block)).rejects.toThrow();
  expect(await readFile(join(root, 'precious'), 'utf8')).toBe('precious');
});

test('a file that is far too large is refused', async () => {
  const { boot, path } = await host();
  await writeFile(path, '');
  await truncate(path, 1 << 20);
  await expect(boot.read('grubenv')).rejects.toMatchObject({ code: 'BOOT_ENV_INVALID' });
});

test('the kernel command line is the one of the folder, and may be absent', async () => {
  const { root, boot } = await host();
  expect(await boot.booted()).toMatchObject({ slot: null, copy: null, trial: '' });
  await mkdir(join(root, 'proc'));
  await writeFile(join(root, 'proc', 'cmdline'), 'ro quantix.slot=B quantix.env=grubenv quantix.trial=trial0001\n');
  expect(await boot.booted()).toMatchObject({ slot: 'B', copy: 'grubenv', trial: 'trial0001', safe: false });
});

test('a host in a folder asks for a restart instead of restarting this machine', async () => {
  const { root, boot } = await host();
  await boot.reboot();
  await boot.reboot();
  expect((await stat(join(root, 'run', 'quantix', 'reboot-requested'))).isFile()).toBe(true);
});

test('this machine is restarted by its own command, and a refusal is told', async () => {
  const ran: string[] = [];
  const answering = (exitCode: number): Process => ({
    run: async (argv) => {
      ran.push(argv.join(' '));
      return { exitCode, stdout: '', stderr: 'no' };
    },
  });
  await grubBoot('', answering(0)).reboot();
  await expect(grubBoot('/', answering(1)).reboot()).rejects.toMatchObject({ code: 'IO' });
  const guarded = [expect.stringMatching(/^sh -c .*setsid .*reboot-guard.*&$/), 'reboot'];
  expect(ran).toEqual([...guarded, ...guarded]);
});
