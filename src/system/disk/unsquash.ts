import { lstat, mkdir, mkdtemp, readlink, rename, rm } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { QxError } from '../../errors.ts';
import type { Process } from '../../ports.ts';
import { isMissing } from '../durable.ts';

const TIMEOUT_MS = 10 * 60_000;
const MAX_LINKS = 8;

/** Files of an image, each at its own path below `toDirectory`; a link is followed inside the image, as GRUB would. */
export async function unsquash(
  process: Process,
  image: string,
  paths: readonly string[],
  toDirectory: string,
  signal?: AbortSignal,
): Promise<void> {
  const scratch = await mkdtemp(join(toDirectory, '.image-'));
  try {
    for (const path of paths) {
      const found = await extract(process, image, path, scratch, signal);
      await mkdir(dirname(join(toDirectory, path)), { recursive: true });
      await rename(found, join(toDirectory, path));
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function extract(
  process: Process,
  image: string,
  path: string,
  scratch: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  let wanted = path;
  for (let links = 0; links <= MAX_LINKS; links++) {
    // One folder each: unsquashfs refuses one that is there, and -force would write through what an image put there.
    const folder = await mkdtemp(join(scratch, 'file-'));
    const out = join(folder, 'out');
    const argv = ['unsquashfs', '-quiet', '-no-progress', '-no-xattrs', '-no-wildcards', '-d', out, image] as const;
    const limits = { timeoutMs: TIMEOUT_MS, ...(signal && { signal }) };
    const { exitCode, stderr } = await process.run([...argv, wanted.slice(1)], limits);
    const found = join(out, wanted);
    const stats = await lstat(found).catch((error) => (isMissing(error) ? null : Promise.reject(error)));
    if (exitCode !== 0 || stats === null) throw unbootable(path, stderr.trim().split('\n').at(-1) || 'it is not there');
    if (stats.isFile()) return found;
    if (!stats.isSymbolicLink()) throw unbootable(path, `${wanted} is no file`);
    // Only text is taken from the link: nothing outside the image is ever looked at.
    wanted = posix.resolve(posix.dirname(wanted), await readlink(found));
  }
  throw unbootable(path, 'its links lead nowhere');
}

const unbootable = (path: string, why: string): QxError =>
  new QxError('IMAGE_UNBOOTABLE', `cannot take ${path} out of the image: ${why}`, {
    next: 'make an image that holds /boot/vmlinuz and /boot/initramfs',
  });
