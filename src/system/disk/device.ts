import type { Stats } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { QxError } from '../../errors.ts';
import type { SlotDevice } from '../../ports.ts';
import { isMissing } from '../durable.ts';

/** What the kernel says about a slot's device. A plain file stands in for one, so that everything runs without root. */

/** /sys counts in these, whatever the device's own sectors are. */
const SECTOR_BYTES = 512;

/** Null when there is no such device. */
export async function deviceAt(path: string): Promise<SlotDevice | null> {
  const real = await realpath(path).catch(absentAsNull);
  if (real === null) return null;
  const stats = await stat(real);
  if (stats.isFile()) {
    return { path: real, sizeBytes: stats.size, kind: 'file', isMounted: await isLoopMounted(real) };
  }
  if (!stats.isBlockDevice()) throw new QxError('SLOT_NOT_FOUND', `${path} is neither a block device nor a file`);
  const number = deviceNumber(stats);
  const sectors = Number(await readFile(`/sys/dev/block/${number}/size`, 'utf8'));
  return { path: real, sizeBytes: sectors * SECTOR_BYTES, kind: 'block', isMounted: await isInUse(real, number) };
}

/** `major:minor`, as /sys and mountinfo write it, out of glibc's packing. */
function deviceNumber({ rdev }: Stats): string {
  const packed = BigInt(rdev);
  const major = ((packed >> 8n) & 0xfffn) | ((packed >> 32n) & 0xfffff000n);
  const minor = (packed & 0xffn) | ((packed >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

async function isInUse(path: string, number: string): Promise<boolean> {
  if ((await mountedNumbers()).has(number)) return true;
  // Device-mapper and RAID keep their members open, and the file system is mounted from them.
  const holders = await readdir(`/sys/dev/block/${number}/holders`).catch(absentAsNull);
  return (holders ?? []).length > 0 || isLoopMounted(path);
}

/** A live system mounts its image through a loop device: the slot below it is not in mountinfo itself. */
async function isLoopMounted(path: string): Promise<boolean> {
  for (const name of (await readdir('/sys/block')).filter((entry) => entry.startsWith('loop'))) {
    const backing = await readFile(join('/sys/block', name, 'loop/backing_file'), 'utf8').catch(absentAsNull);
    if (backing === null || backing.trimEnd() !== path) continue;
    const number = (await readFile(join('/sys/block', name, 'dev'), 'utf8')).trim();
    if (await isInUse(`/dev/${name}`, number)) return true;
  }
  return false;
}

async function mountedNumbers(): Promise<ReadonlySet<string>> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return new Set(lines.map((line) => line.split(' ', 3)[2] ?? ''));
}

/** A loop device may go away while we look: an attribute of a detached one is not there, or cannot be read any more. */
function absentAsNull(error: unknown): null {
  if (isMissing(error)) return null;
  throw error;
}
