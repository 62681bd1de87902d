import { lstat, open, readdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { QxError } from '../../errors.ts';
import type { Process, SlotDevice } from '../../ports.ts';

/** ext4 through e2fsprogs: nothing is mounted, so nothing here needs root. */

const MIB = 1 << 20;
const BLOCK_BYTES = 4096;
const MAKE_TIMEOUT_MS = 30 * 60_000;
const READ_TIMEOUT_MS = 60_000;

/**
 * Named one by one, because a distribution's defaults grow features that GRUB 2.06 refuses (metadata_csum_seed) or that a
 * file system which is never written again has no use for (a journal, room to resize).
 */
const FEATURES = 'none,dir_index,extent,extra_isize,filetype,flex_bg,huge_file,large_file,metadata_csum,sparse_super';

export interface MakeExt4 {
  readonly image: string;
  readonly fromDirectory: string;
  readonly label: string;
  readonly signal?: AbortSignal | undefined;
}

export async function makeExt4(process: Process, { image, fromDirectory, label, signal }: MakeExt4): Promise<void> {
  const content = await measure(fromDirectory);
  // Bitmaps, inodes and extents take well under a percent; what stays free is never written, only zeroed.
  const sizeBytes = Math.ceil((content.bytes + content.bytes / 64) / MIB + 4) * MIB;
  await (await open(image, 'wx', 0o600)).close();
  await truncate(image, sizeBytes);
  const options = ['-q', '-F', '-t', 'ext4', '-O', FEATURES, '-b', String(BLOCK_BYTES), '-I', '256', '-m', '0'];
  const inodes = ['-N', String(content.entries + 32), '-E', 'lazy_itable_init=0,root_owner=0:0'];
  const argv = ['mke2fs', ...options, ...inodes, '-L', label, '-d', fromDirectory, image] as const;
  const { exitCode, stderr } = await process.run(argv, { timeoutMs: MAKE_TIMEOUT_MS, ...(signal && { signal }) });
  if (exitCode !== 0)
    throw new QxError(isFull(stderr) ? 'NO_SPACE' : 'IO', `mke2fs failed: ${lastLine(stderr)}`, {
      next: 'dmesg says what is wrong with the disk; a slot that is too small takes a smaller image',
    });
}

interface Content {
  readonly bytes: number;
  readonly entries: number;
}

async function measure(path: string): Promise<Content> {
  const stats = await lstat(path);
  const own = { bytes: Math.ceil(stats.size / BLOCK_BYTES) * BLOCK_BYTES, entries: 1 };
  if (!stats.isDirectory()) return own;
  const inside = await Promise.all((await readdir(path)).map((name) => measure(join(path, name))));
  return inside.reduce((a, b) => ({ bytes: a.bytes + b.bytes, entries: a.entries + b.entries }), own);
}

/** A run of a file: `lengthBytes` of it lie at `at` on the device; null for a hole, which reads as zeros. */
export interface Run {
  readonly at: number | null;
  readonly lengthBytes: number;
}

/** Where a file's content lies, in its order. @throws QxError READBACK_MISMATCH when there is no such file */
export async function locateFile(
  process: Process,
  device: SlotDevice,
  blockBytes: number,
  path: string,
): Promise<readonly Run[]> {
  if (!/^(\/[A-Za-z0-9._-]+)+$/.test(path)) throw new QxError('IO', `cannot ask debugfs for ${JSON.stringify(path)}`);
  // -D: past the page cache, like the content that is read afterwards.
  const direct = device.kind === 'block' ? ['-D'] : [];
  const argv = ['debugfs', ...direct, '-R', `stat ${path}`, device.path] as const;
  const { stdout, stderr } = await process.run(argv, { timeoutMs: READ_TIMEOUT_MS });
  const sizeBytes = Number(/^User:.* Size: (\d+)$/m.exec(stdout)?.[1]);
  if (!stdout.includes('Type: regular') || !Number.isSafeInteger(sizeBytes)) {
    throw new QxError('READBACK_MISMATCH', `${path} is not a file on ${device.path}: ${lastLine(stderr)}`);
  }
  return runsOf(stdout.slice(stdout.indexOf('EXTENTS:')), blockBytes, sizeBytes);
}

/** debugfs prints `(0-2559):1238-3797, (3328):3798`: file blocks, then device blocks. */
export function runsOf(extents: string, blockBytes: number, sizeBytes: number): Run[] {
  const runs: Run[] = [];
  let end = 0;
  const add = (at: number | null, until: number) => {
    const lengthBytes = Math.min(until, sizeBytes) - end;
    if (lengthBytes > 0) runs.push({ at, lengthBytes });
    end = Math.max(end, until);
  };
  for (const [, first, last, isUnwritten, block] of extents.matchAll(/\((\d+)(?:-(\d+))?(\[u\])?\):(\d+)/g)) {
    add(null, Number(first) * blockBytes);
    add(isUnwritten === undefined ? Number(block) * blockBytes : null, (Number(last ?? first) + 1) * blockBytes);
  }
  add(null, sizeBytes);
  return runs;
}

const isFull = (text: string): boolean => /No space left|Could not allocate block/i.test(text);
const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';
