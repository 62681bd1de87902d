import { type FileHandle, open, readFile } from 'node:fs/promises';
import type { Partition } from '../../../scripts/support/machine-disk.ts';
import { type BlockLog, type LoggedWrite, SECTOR_BYTES } from './block-log.ts';
import type { Range } from './crash-states.ts';

/** A disk that is put into one crash state after the other, as far as GRUB looks at it: boot partition and slots. */

const SECTORS_PER_MIB = 2048;

export interface Slot {
  readonly partition: Partition;
  /** What has to be on it before anybody may boot it. */
  readonly image: string;
}

/** A write, or those sectors of it that reached the disk. */
export interface Reached {
  readonly write: LoggedWrite;
  readonly ranges: readonly Range[] | 'all';
}

export interface CrashDisk extends AsyncDisposable {
  /** GRUB looks at what is written there: the rest of the disk is not even kept. */
  concerns(write: LoggedWrite): boolean;
  /** Whether a slot holds its image, to the last byte. */
  isWhole(slot: 'A' | 'B'): boolean;
  /** For good. */
  take(log: BlockLog, reached: readonly Reached[]): Promise<void>;
  /** Until it is disposed of; GRUB may write to the boot partition meanwhile. */
  during(log: BlockLog, reached: readonly Reached[]): Promise<AsyncDisposable>;
}

export interface CrashDiskOptions {
  readonly disk: string;
  readonly boot: Partition;
  readonly slots: Readonly<Record<'A' | 'B', Slot>>;
}

export async function openCrashDisk({ disk, boot, slots }: CrashDiskOptions): Promise<CrashDisk> {
  const file = await open(disk, 'r+');
  const bootPart = await trackedBoot(file, boot);
  const both = { A: await trackedSlot(file, slots.A), B: await trackedSlot(file, slots.B) };
  const regions = [bootPart, both.A, both.B];
  const concerns = ({ sector }: LoggedWrite): boolean => regions.some((region) => region.holds(sector));
  const put = async (sector: number, bytes: Buffer): Promise<void> => {
    await file.write(bytes, 0, bytes.length, sector * SECTOR_BYTES);
    for (const region of regions) region.written(sector, bytes);
  };
  /** Answers what was there, newest last. */
  const apply = async (log: BlockLog, reached: readonly Reached[]): Promise<[number, Buffer][]> => {
    const before: [number, Buffer][] = [];
    for (const { write, ranges } of reached) {
      for (const [from, to] of ranges === 'all' ? [[0, write.sectors] as const] : ranges) {
        before.push([write.sector + from, await read(file, write.sector + from, to - from)]);
        await put(write.sector + from, await log.read(write, from, to));
      }
    }
    return before;
  };
  return {
    concerns,
    isWhole: (slot) => both[slot].isWhole(),
    take: async (log, reached) => void (await apply(log, reached)),
    during: async (log, reached) => {
      const before = await apply(log, reached);
      return {
        [Symbol.asyncDispose]: async () => {
          await bootPart.restore();
          for (const [sector, bytes] of before.reverse()) await put(sector, bytes);
        },
      };
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

async function read(file: FileHandle, sector: number, sectors: number): Promise<Buffer> {
  const bytes = Buffer.alloc(sectors * SECTOR_BYTES);
  await file.read(bytes, 0, bytes.length, sector * SECTOR_BYTES);
  return bytes;
}

const startOf = ({ startMib }: Partition): number => startMib * SECTORS_PER_MIB;

const holds =
  ({ startMib, sizeMib }: Partition) =>
  (sector: number): boolean =>
    sector >= startMib * SECTORS_PER_MIB && sector < (startMib + sizeMib) * SECTORS_PER_MIB;

/** Kept in memory, since GRUB counts on the disk. */
async function trackedBoot(file: FileHandle, partition: Partition) {
  const start = startOf(partition);
  const content = await read(file, start, partition.sizeMib * SECTORS_PER_MIB);
  const isInside = holds(partition);
  return {
    holds: isInside,
    written: (sector: number, bytes: Buffer): void => {
      if (isInside(sector)) bytes.copy(content, (sector - start) * SECTOR_BYTES);
    },
    restore: async (): Promise<void> => void (await file.write(content, 0, content.length, start * SECTOR_BYTES)),
  };
}

async function trackedSlot(file: FileHandle, { partition, image }: Slot) {
  const start = startOf(partition);
  const expected = await readFile(image);
  const sectors = Math.ceil(expected.length / SECTOR_BYTES);
  const isInside = holds(partition);
  const wrong = new Set<number>();
  const written = (sector: number, bytes: Buffer): void => {
    if (!isInside(sector)) return;
    for (let i = 0; i < bytes.length / SECTOR_BYTES; i++) {
      const at = sector - start + i;
      if (at >= sectors) return;
      const right = expected.subarray(at * SECTOR_BYTES, (at + 1) * SECTOR_BYTES);
      const found = bytes.subarray(i * SECTOR_BYTES, i * SECTOR_BYTES + right.length);
      if (right.equals(found)) wrong.delete(at);
      else wrong.add(at);
    }
  };
  for (let at = 0; at < sectors; at += SECTORS_PER_MIB) {
    written(start + at, await read(file, start + at, Math.min(SECTORS_PER_MIB, sectors - at)));
  }
  return { holds: isInside, written, isWhole: (): boolean => wrong.size === 0 };
}
