import { createHash } from 'node:crypto';
import { copyFile, mkdir, open, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { piecesOfFile } from '../../src/agent/slot/pieces.ts';
import { type SlotWrite, writeSlot } from '../../src/agent/slot.ts';
import type { Ranges } from '../../src/ports/serving.ts';
import type { Disk, Files } from '../../src/ports.ts';
import { hostDisk } from '../../src/system/disk.ts';
import { hostFiles } from '../../src/system/files.ts';
import { hostProcess } from '../../src/system/process.ts';
import { hostRanges } from '../../src/system/ranges.ts';
import { recordedLog } from './fakes.ts';
import { grubFinds, type ImageOptions, type sharedImages, type TestImage } from './images.ts';
import { temporaryFolder } from './temp.ts';

/** A host in a folder that runs from slot A and writes slot B, with real files or devices and real tools. */

const MIB = 1 << 20;
const SLOTS = { A: '/slot-a', B: '/slot-b' } as const;
export const SCRATCH = '/data/updates/scratch/slot';

export interface SlotPorts {
  readonly disk: Disk;
  readonly files: Files;
  readonly ranges: Ranges;
}

export interface SlotBench extends SlotPorts {
  readonly root: string;
  readonly slotB: string;
  readonly log: ReturnType<typeof recordedLog>;
  /** Slots are told not to be ok here, in order with what the tests record. */
  readonly events: string[];
}

export async function slotBench(options: { slotMib?: number; deviceB?: string } = {}): Promise<SlotBench> {
  const root = await temporaryFolder();
  const slotB = options.deviceB ?? join(root, 'slot-b');
  for (const path of [join(root, 'slot-a'), ...(options.deviceB === undefined ? [slotB] : [])]) {
    await writeFile(path, '');
    await truncate(path, (options.slotMib ?? 16) * MIB);
  }
  if (options.deviceB !== undefined) await symlink(options.deviceB, join(root, 'slot-b'));
  await mkdir(join(root, 'data'));
  const disk = hostDisk({ root, slot: async (slot) => SLOTS[slot], process: hostProcess() });
  const events: string[] = [];
  return { root, slotB, disk, files: hostFiles(root), ranges: hostRanges(root), log: recordedLog(), events };
}

/** Where the image lies as a staged file of this host. */
export const stagedPath = (image: TestImage): string => `/data/${basename(image.path)}`;

/** A fresh bench and an image of at least 3 MiB, which the tests of one file share. */
export const benchesWith =
  (imageWith: ReturnType<typeof sharedImages>) =>
  async (options: ImageOptions = {}): Promise<{ bench: SlotBench; image: TestImage }> => ({
    bench: await slotBench(),
    image: await imageWith({ fillBytes: 3 * MIB, ...options }),
  });

export async function stage(bench: SlotBench, image: TestImage): Promise<void> {
  await copyFile(image.path, join(bench.root, stagedPath(image)));
}

export type Changes = Partial<SlotWrite> & { readonly ports?: Partial<SlotPorts> };

/** Stages the image and writes it to slot B, with whatever a test wants to be different. */
export async function writeImage(bench: SlotBench, image: TestImage, changes: Changes = {}): Promise<void> {
  const { ports = {}, ...write } = changes;
  const { disk, files, ranges, log } = { ...bench, ...ports };
  await stage(bench, image);
  await writeSlot(
    { disk, files, ranges, log },
    {
      slot: 'B',
      running: 'A',
      layout: 'raw',
      version: '2.0.0',
      image: { artifact: basename(image.path), sha256: image.sha256, sizeBytes: image.sizeBytes },
      pieces: piecesOfFile(ranges, stagedPath(image), image.sizeBytes),
      invalidate: async () => void bench.events.push('invalidate'),
      watch: {},
      ...write,
    },
  );
}

/** What GRUB makes of slot B: the kernel and initramfs of this image, something else, or nothing. */
export async function grubSees({ slotB }: SlotBench, image: TestImage): Promise<'same' | 'other' | 'none'> {
  const kernel = await grubFinds(slotB, '/boot/vmlinuz', image.kernel);
  return kernel === 'same' ? grubFinds(slotB, '/boot/initramfs', image.initramfs) : kernel;
}

export async function isHeadZero({ slotB }: SlotBench): Promise<boolean> {
  const file = await open(slotB, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(MIB), 0, MIB, 0);
    return buffer.every((byte) => byte === 0);
  } finally {
    await file.close();
  }
}

/** Everything on slot B. */
export const slotHash = async ({ slotB }: SlotBench): Promise<string> =>
  createHash('sha256')
    .update(await readFile(slotB))
    .digest('hex');

/** A port of which some methods are replaced; the others keep working on the real thing. */
export const withMethods = <T extends object>(port: T, methods: Partial<T>): T => ({ ...port, ...methods });
