import type { Slot } from '../../core/boot.ts';
import { QxError } from '../../errors.ts';
import { BOOT_FILES, expectSquashfs } from '../../format/squashfs.ts';
import type { Ranges } from '../../ports/serving.ts';
import type { Disk, Files } from '../../ports.ts';
import { type Content, type Piece, piecesOfFile, verifiedBlocks } from './pieces.ts';

/**
 * The ancestor's layout: an ext4 file system with the image as a file, and its kernel and initramfs beside it. It is made
 * in a file and then goes onto the slot like any other image, so both layouts are equally safe against a power cut.
 */

export const IMAGE_IN_SLOT = '/quantix/system.squashfs';
const VERSION = '/quantix/VERSION';
const BLOCK_BYTES = 1 << 20;
/** The image twice, once as a file of its own and once inside the file system, and its boot files. */
const spaceFor = (sizeBytes: number): number => 2 * sizeBytes + (256 << 20);

export interface FileSystemRequest {
  readonly slot: Slot;
  readonly version: string;
  readonly content: Content;
  readonly pieces: AsyncIterable<Piece>;
  /** A folder of ours on a disk with room; emptied first. */
  readonly scratch: string;
  readonly signal?: AbortSignal;
}

export interface FileSystemImage {
  readonly content: Content;
  readonly pieces: AsyncIterable<Piece>;
  /** @throws QxError READBACK_MISMATCH when a file on the slot is not the one that was put in */
  readonly approve: () => Promise<void>;
}

interface Machine {
  readonly disk: Disk;
  readonly files: Files;
  readonly ranges: Ranges;
}

/** @throws QxError NO_SPACE | HASH_MISMATCH | SIZE_MISMATCH | IMAGE_UNBOOTABLE */
export async function makeFileSystemImage(machine: Machine, request: FileSystemRequest): Promise<FileSystemImage> {
  const { disk, files, ranges } = machine;
  const { slot, scratch, content, signal } = request;
  const tree = `${scratch}/tree`;
  const path = `${scratch}/slot.ext4`;
  await files.remove(scratch);
  await files.makeDirectory(scratch, 0o700);
  await checkSpace(files, scratch, content.sizeBytes);
  await copyImage(files, tree, request);
  await files.writeAtomic(`${tree}${VERSION}`, new TextEncoder().encode(`${request.version}\n`));
  // Out of our own copy: nobody has ever had a descriptor of it.
  await disk.extractFromImage(`${tree}${IMAGE_IN_SLOT}`, BOOT_FILES, tree, signal);
  const expected = new Map<string, string>([[IMAGE_IN_SLOT, content.sha256]]);
  for (const file of BOOT_FILES) expected.set(file, (await files.hash(`${tree}${file}`, signal)).sha256);
  await disk.makeFileSystem(path, tree, `QUANTIX-${slot}`, signal);
  const made = await files.hash(path, signal);
  return {
    content: made,
    pieces: piecesOfFile(ranges, path, made.sizeBytes),
    approve: () => checkFiles(disk, slot, expected, signal),
  };
}

async function checkSpace(files: Files, scratch: string, sizeBytes: number): Promise<void> {
  const [free, needed] = [await files.freeBytes(scratch), spaceFor(sizeBytes)];
  if (free >= needed) return;
  const detail = `making the slot's file system takes ${needed} bytes below ${scratch}, which has ${free}`;
  throw new QxError('NO_SPACE', detail, { next: 'free space, or use slot_layout: raw, which needs none' });
}

async function copyImage(files: Files, tree: string, { content, pieces, signal }: FileSystemRequest): Promise<void> {
  await files.makeDirectory(`${tree}/quantix`);
  const copy = await files.openPart(`${tree}${IMAGE_IN_SLOT}`, 0);
  try {
    for await (const { offset, bytes } of verifiedBlocks(pieces, content, BLOCK_BYTES)) {
      if (signal?.aborted) throw new QxError('CANCELLED', 'making the file system was cancelled');
      if (offset === 0) expectSquashfs(bytes, content.sizeBytes);
      await copy.append(bytes);
    }
  } finally {
    await copy.close();
  }
  await files.setMode(`${tree}${IMAGE_IN_SLOT}`, 0o644);
}

async function checkFiles(
  disk: Disk,
  slot: Slot,
  expected: ReadonlyMap<string, string>,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const [path, sha256] of expected) {
    if ((await disk.hashFileInSlot(slot, path, signal)) === sha256) continue;
    throw new QxError('READBACK_MISMATCH', `${path} on slot ${slot} is not the file that was written`);
  }
}
