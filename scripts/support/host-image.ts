import { randomBytes } from 'node:crypto';
import { chmod, copyFile, cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { type Init, makeOpenrcTree } from './openrc-tree.ts';

/** A small but whole Quantix-OS image: BusyBox, OpenRC, what install-host.sh puts there, and a kernel or a stand-in for it. */
export interface HostImageOptions {
  /** An existing folder to work in. */
  readonly folder: string;
  readonly version: string;
  /** Made by `npm run build -- --host`. */
  readonly executable: string;
  readonly rt: string;
  /** Files below /etc/limiquantix/node.d. */
  readonly settings: string;
  /** A folder that makes it as large as a real one. */
  readonly ballast?: string;
  /** Changes the root folder before it becomes an image. */
  readonly change?: (tree: string) => Promise<void>;
  /** Files of a kernel that can be started; two stand-ins without it. */
  readonly kernel?: { readonly vmlinuz: string; readonly initramfs: string };
  /** Process 1; BusyBox's without it. */
  readonly init?: Init;
  /** `xz` without it. */
  readonly compression?: Compression;
}

type Compression = keyof typeof COMPRESSION;

/** Who reads a file page by page, GRUB for one, unpacks its block for each page. */
const SMALL = ['-b', '16K'] as const;

/** What mksquashfs is told; all but the first take a second instead of half a minute. */
const COMPRESSION = {
  xz: ['-comp', 'xz'],
  /** Only what GRUB reads, which then notices damage in it. */
  'xz, of boot alone': ['-comp', 'xz', ...SMALL, '-action', 'uncompressed@!subpathname(boot)'],
  /** All but what GRUB reads: in a machine without KVM it takes eight seconds to unpack a kernel. */
  'lzo, but for boot': [
    '-comp',
    'lzo',
    '-Xalgorithm',
    'lzo1x_1',
    ...SMALL,
    '-action',
    'uncompressed@subpathname(boot)',
  ],
} as const;

export interface HostImage {
  readonly image: string;
  /** What belongs on the boot partition: the folder `grub`. */
  readonly bootFolder: string;
}

/** Programs beyond BusyBox that the agent calls. */
const TOOLS = ['blockdev', 'mke2fs', 'debugfs', 'unsquashfs'];
export const IMAGE_COMMANDS = [...TOOLS, 'mksquashfs'] as const;

/** Puts onto a host, or into the tree of an image, what makes it one of ours. */
export const INSTALLER = 'scripts/install-host.sh';

export async function makeHostImage(options: HostImageOptions): Promise<HostImage> {
  const { folder, version, executable, rt, settings, ballast, change, kernel, init, compression = 'xz' } = options;
  const tree = join(folder, `tree-${version}`);
  const bootFolder = join(folder, `boot-${version}`);
  await mkdir(tree);
  await makeOpenrcTree(tree, TOOLS, init);
  const paths = ['--root', tree, '--boot-dir', join(bootFolder, 'grub'), '--executable', executable, '--rt', rt];
  await execa(INSTALLER, [...paths, '--version', version]);
  await mkdir(join(tree, 'etc/limiquantix/node.d'));
  await writeFile(join(tree, 'etc/limiquantix/node.d/10-server.yaml'), settings);
  await writeFile(join(tree, 'etc/hosts'), '127.0.0.1 localhost\n');
  await putKernel(join(tree, 'boot'), kernel);
  if (ballast !== undefined) await cp(ballast, join(tree, 'usr/share/ballast'), { recursive: true });
  await change?.(tree);
  await chmod(tree, 0o755);
  const image = join(folder, `system-${version}.squashfs`);
  const rest = ['-noappend', '-quiet', '-no-progress', '-all-root', ...COMPRESSION[compression]];
  await execa('mksquashfs', [tree, image, ...rest]);
  await rm(tree, { recursive: true });
  return { image, bootFolder };
}

async function putKernel(folder: string, kernel: HostImageOptions['kernel']): Promise<void> {
  await mkdir(folder, { recursive: true });
  const at = { vmlinuz: join(folder, 'vmlinuz'), initramfs: join(folder, 'initramfs') };
  if (kernel !== undefined) {
    await copyFile(kernel.vmlinuz, at.vmlinuz);
    await copyFile(kernel.initramfs, at.initramfs);
    return;
  }
  // GRUB reads both to their last byte, and a machine without a kernel starts neither.
  await writeFile(at.vmlinuz, randomBytes(2_000_000));
  await writeFile(at.initramfs, randomBytes(1_000_000));
}
