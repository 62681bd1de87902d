import { chmod, copyFile, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Init } from '../../scripts/support/openrc-tree.ts';
import { type ImageOf, journeyImages } from '../support/journey.ts';
import { makeInitramfs } from './initramfs.ts';
import { debianKernel } from './kernel.ts';

/** Images that a virtual machine starts: a kernel, and besides what a host has its network and a shell for the test. */

const at = (name: string): string => join(import.meta.dirname, 'guest', name);

export const vmImages = (init: Init = 'busybox'): ImageOf =>
  journeyImages(async (folder) => {
    const kernel = await debianKernel();
    const initramfs = await makeInitramfs(folder, kernel);
    return { kernel: { vmlinuz: kernel.vmlinuz, initramfs }, init, change: addGuest };
  });

async function addGuest(tree: string): Promise<void> {
  await mkdir(join(tree, 'usr/lib/quantix-vm'));
  await put(at('vm-shell'), join(tree, 'usr/lib/quantix-vm/vm-shell'));
  for (const service of ['vm-shell', 'vm-net']) {
    await put(at(`${service}.service`), join(tree, 'etc/init.d', service));
    await symlink(`/etc/init.d/${service}`, join(tree, 'etc/runlevels/boot', service));
  }
}

async function put(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  await chmod(to, 0o755);
}
