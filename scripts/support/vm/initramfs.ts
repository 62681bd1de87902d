import { chmod, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import type { Kernel } from './kernel.ts';

/** BusyBox, the modules and `guest/init` in an archive that the kernel unpacks. */

export const INITRAMFS_COMMANDS = ['busybox', 'cpio', 'e2fsck', 'ldd'] as const;

const BUSYBOX = '/bin/busybox';
export const INIT = join(import.meta.dirname, 'guest/init');

/** Makes `folder`/initramfs and answers its path; `init` is its process 1. Not compressed: GRUB reads it faster than a guest without KVM unpacks it. */
export async function makeInitramfs(folder: string, { modules }: Kernel, init: string = INIT): Promise<string> {
  const tree = join(folder, 'initramfs-tree');
  await mkdir(join(tree, 'bin'), { recursive: true });
  await copyFile(BUSYBOX, join(tree, 'bin/busybox'));
  await execa('ln', ['-s', 'busybox', join(tree, 'bin/sh')]);
  await addChecker(tree);
  await copyFile(init, join(tree, 'init'));
  await chmod(join(tree, 'init'), 0o755);
  for (const module of modules) await copyFile(module, join(tree, basename(module)));
  await writeFile(join(tree, 'modules'), modules.map((module) => `${basename(module)}\n`).join(''));
  // The kernel opens it for process 1 before anything is mounted.
  await mkdir(join(tree, 'dev'));
  await execa('mknod', [join(tree, 'dev/console'), 'c', '5', '1']);
  const path = join(folder, 'initramfs');
  await execa('sh', ['-euc', 'cd "$1" && find . | cpio -o -H newc --quiet >"$2"', 'sh', tree, path]);
  await rm(tree, { recursive: true });
  return path;
}

/** A power cut may leave a journal that the kernel does not take and e2fsck does: every host has it before its mounts. */
async function addChecker(tree: string): Promise<void> {
  const { stdout: path } = await execa('sh', ['-c', 'command -v e2fsck']);
  const { stdout } = await execa('ldd', [path]);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, library]) => library as string);
  await copyFile(path, join(tree, 'bin/e2fsck'));
  for (const library of libraries) {
    await mkdir(join(tree, dirname(library)), { recursive: true });
    await copyFile(library, join(tree, library));
  }
}
