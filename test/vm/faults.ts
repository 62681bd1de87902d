import { chmod, copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { INIT, makeInitramfs } from '../../scripts/support/vm/initramfs.ts';
import { debianKernel } from '../../scripts/support/vm/kernel.ts';

/**
 * One image that fails in many ways. Which one, QEMU's command line says, in the serial number of the machine. Without a word
 * of that it is well, and other images do not look there: the same machine has both on its two slots.
 */

export type Fault =
  | `${'kernel' | 'initramfs' | 'init'}-panics`
  | `${'initramfs' | 'init' | 'service' | 'hook'}-hangs`
  | 'agent-dies'
  | 'agent-is-a-stump'
  | `${'boot' | 'data'}-is-read-only`
  | 'data-is-full'
  | 'everything-stops';

export const told = (fault: Fault): readonly string[] => ['-smbios', `type=1,serial=${fault}`];

/** The kernel's own, the second one by means of the first. */
const WATCHDOG = ['watchdog', 'softdog'];

const at = (name: string): string => join(import.meta.dirname, 'faults', name);

/** Changes the tree of an image for virtual machines into one that fails when it is told to. */
export async function addFaults(tree: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'quantix-faults-'));
  try {
    const init = join(folder, 'init');
    await writeFile(init, (await readFile(at('in-initramfs'), 'utf8')) + (await readFile(INIT, 'utf8')));
    await copyFile(await makeInitramfs(folder, await debianKernel(), init), join(tree, 'boot/initramfs'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const { modules } = await debianKernel(WATCHDOG);
  for (const module of modules.slice(-WATCHDOG.length)) {
    await copyFile(module, join(tree, 'usr/lib/quantix-vm', basename(module)));
  }
  await rm(join(tree, 'usr/sbin/init'));
  await copyFile(at('init'), join(tree, 'usr/sbin/init'));
  await chmod(join(tree, 'usr/sbin/init'), 0o755);
}

/** In /quantix, so that it is asked before the update as well: a program of health.d that hangs on slot B when it is told to. */
export const HOOK = `#!/bin/sh
case "$(cat /sys/class/dmi/id/product_serial /proc/cmdline)" in hook-hangs*quantix.slot=B*) exec sleep 1000000 ;; esac
`;
