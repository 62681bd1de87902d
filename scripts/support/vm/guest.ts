import { appendFile, chmod, copyFile, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * What the image of a virtual machine has besides that of a host: its network, and a shell on a port of its own. Its
 * status screen is drawn once in ten minutes: without KVM, each time takes some four seconds of its only processor.
 */

const at = (name: string): string => join(import.meta.dirname, 'guest', name);

export async function addGuest(tree: string): Promise<void> {
  await mkdir(join(tree, 'usr/lib/quantix-vm'));
  await put(at('vm-shell'), join(tree, 'usr/lib/quantix-vm/vm-shell'));
  await appendFile(join(tree, 'etc/conf.d/quantix-console'), 'command_args_foreground="--interval 600"\n');
  for (const service of ['vm-shell', 'vm-net']) {
    await put(at(`${service}.service`), join(tree, 'etc/init.d', service));
    await symlink(`/etc/init.d/${service}`, join(tree, 'etc/runlevels/boot', service));
  }
}

async function put(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  await chmod(to, 0o755);
}
