import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';
import { type KernelKind, kernelHead } from './kernels.ts';

const execute = promisify(execFile);

/** Real squashfs images, made by mksquashfs. */

export const IMAGE_COMMANDS = ['mksquashfs', 'unsquashfs', 'mke2fs', 'debugfs', 'grub-fstest'] as const;

export interface TestImage {
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly kernel: string;
  readonly initramfs: string;
}

export interface ImageOptions {
  readonly compressor?: string;
  /** Random bytes beside kernel and initramfs, so that an image of this size comes out. */
  readonly fillBytes?: number;
  /** Folders of this machine that go into the image. */
  readonly folders?: readonly string[];
  readonly kernelKind?: KernelKind;
  /** What it says of itself; nothing without it. */
  readonly version?: string;
  readonly bootFiles?: 'regular' | 'links' | 'none' | 'absolute' | 'loop';
}

export async function makeImage(folder: string, name: string, options: ImageOptions = {}): Promise<TestImage> {
  const {
    compressor = 'xz',
    fillBytes = 200_000,
    folders = [],
    bootFiles = 'regular',
    kernelKind = 'bzImage',
  } = options;
  const tree = join(folder, `${name}.tree`);
  const kernel = join(folder, `${name}.vmlinuz`);
  const initramfs = join(folder, `${name}.initramfs`);
  await mkdir(join(tree, 'boot'), { recursive: true });
  await mkdir(join(tree, 'usr'));
  await writeFile(kernel, Buffer.concat([kernelHead(kernelKind), randomBytes(299_000)]));
  await writeFile(initramfs, randomBytes(150_003));
  await writeFile(join(tree, 'usr/fill'), randomBytes(fillBytes));
  for (const source of folders) await cp(source, join(tree, source), { recursive: true, verbatimSymlinks: true });
  if (options.version !== undefined) {
    await mkdir(join(tree, 'etc'), { recursive: true });
    await writeFile(join(tree, 'etc/quantix-version'), `${options.version}\n`);
  }
  await addBootFiles(join(tree, 'boot'), kernel, initramfs, bootFiles);
  const path = join(folder, `${name}.squashfs`);
  await execute('mksquashfs', [tree, path, '-comp', compressor, '-noappend', '-quiet', '-no-progress', '-all-root']);
  return { path, ...(await hashOf(path)), kernel, initramfs };
}

/** Images that the tests of one file share, each made when it is first asked for; they only read them. */
export function sharedImages(): (options?: ImageOptions) => Promise<TestImage> {
  const made = new Map<string, Promise<TestImage>>();
  const folder = mkdtemp(join(tmpdir(), 'quantix-images-'));
  afterAll(async () => rm(await folder, { recursive: true, force: true }));
  return async (options = {}) => {
    const key = JSON.stringify(options);
    const image = made.get(key) ?? makeImage(await folder, `os${made.size}`, options);
    made.set(key, image);
    return image;
  };
}

async function addBootFiles(
  boot: string,
  kernel: string,
  initramfs: string,
  kind: NonNullable<ImageOptions['bootFiles']>,
): Promise<void> {
  if (kind === 'none') return;
  await cp(initramfs, join(boot, 'initramfs'));
  if (kind === 'regular') return cp(kernel, join(boot, 'vmlinuz'));
  await cp(kernel, join(boot, 'vmlinuz-6.12'));
  const targets = { links: 'vmlinuz-6.12', absolute: '/boot/vmlinuz-6.12', loop: 'vmlinuz' };
  await execute('ln', ['-s', targets[kind], join(boot, 'vmlinuz')]);
}

export async function hashOf(path: string): Promise<{ sha256: string; sizeBytes: number }> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  return { sha256: hash.digest('hex'), sizeBytes: (await stat(path)).size };
}

/** Whether GRUB finds this very file on the device: 'same', 'other' content (or damage that it noticed), or 'none'. */
export async function grubFinds(device: string, path: string, expected: string): Promise<'same' | 'other' | 'none'> {
  const listed = await execute('grub-fstest', [device, 'ls', `(loop0)${path}`]).then(
    ({ stdout }) => stdout.trim() !== '',
    () => false,
  );
  if (!listed) return 'none';
  return execute('grub-fstest', [device, 'cmp', `(loop0)${path}`, expected]).then(
    () => 'same',
    () => 'other',
  );
}
