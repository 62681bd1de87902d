import { createHash } from 'node:crypto';
import type { Slot } from '../core/boot.ts';
import { QxError } from '../errors.ts';
import { LAYOUT_BYTES, readExt4 } from '../format/slot-layout.ts';
import type { Disk, Process, SlotDevice } from '../ports.ts';
import { deviceAt } from './disk/device.ts';
import { readMedium } from './disk/direct.ts';
import { locateFile, makeExt4, type Run } from './disk/ext4.ts';
import { unsquash } from './disk/unsquash.ts';
import { openDevice } from './disk/writer.ts';
import { hostPath } from './host-path.ts';

export interface DiskOptions {
  readonly root: string;
  /** Host paths of the two devices, such as /dev/disk/by-partlabel/QUANTIX-A; a plain file stands in for a device. */
  readonly slots: Readonly<Record<Slot, string>>;
  readonly process: Process;
}

const FLUSH_TIMEOUT_MS = 60_000;
const ZEROS_BYTES = 1 << 16;

export function hostDisk({ root, slots, process }: DiskOptions): Disk {
  const at = (path: string): string => hostPath(root, path);
  const find = (slot: Slot) => deviceAt(at(slots[slot]));
  const present = async (slot: Slot): Promise<SlotDevice> => {
    const device = await find(slot);
    if (device === null) throw new QxError('SLOT_NOT_FOUND', `slot ${slot} has no device at ${at(slots[slot])}`);
    return device;
  };

  const flushCache = async (device: SlotDevice): Promise<void> => {
    // A plain file is a stand-in: what its own file system's cache says has to do.
    if (device.kind === 'file') return;
    const { exitCode } = await process.run(['blockdev', '--flushbufs', device.path], { timeoutMs: FLUSH_TIMEOUT_MS });
    if (exitCode !== 0) throw new QxError('IO', `${device.path} cannot be read past the page cache`);
  };

  const hashRuns = async (device: SlotDevice, runs: readonly Run[], signal?: AbortSignal): Promise<string> => {
    const hash = createHash('sha256');
    for (const { at: offset, lengthBytes } of runs) {
      const pieces = offset === null ? zeros(lengthBytes) : readMedium(device, offset, lengthBytes, flushCache, signal);
      for await (const piece of pieces) hash.update(piece);
    }
    return hash.digest('hex');
  };

  const readStart = async (slot: Slot, lengthBytes: number): Promise<Uint8Array> => {
    const device = await present(slot);
    const start = new Uint8Array(Math.min(lengthBytes, device.sizeBytes));
    let filled = 0;
    for await (const piece of readMedium(device, 0, start.length, flushCache)) {
      start.set(piece, filled);
      filled += piece.length;
    }
    return start;
  };

  return {
    device: find,
    openForWriting: async (slot) => openDevice(await present(slot)),
    hashRange: async (slot, offset, lengthBytes, signal) =>
      hashRuns(await present(slot), [{ at: offset, lengthBytes }], signal),
    readStart,
    makeFileSystem: (image, fromDirectory, label, signal) =>
      makeExt4(process, { image: at(image), fromDirectory: at(fromDirectory), label, signal }),
    hashFileInSlot: async (slot, path, signal) => {
      const device = await present(slot);
      const ext4 = readExt4(await readStart(slot, LAYOUT_BYTES));
      if (ext4 === null) throw new QxError('READBACK_MISMATCH', `slot ${slot} holds no ext4 file system`);
      return hashRuns(device, await locateFile(process, device, ext4.blockBytes, path), signal);
    },
    extractFromImage: (image, paths, toDirectory, signal) =>
      unsquash(process, at(image), paths, at(toDirectory), signal),
  };
}

function* zeros(lengthBytes: number): Generator<Uint8Array> {
  const block = new Uint8Array(ZEROS_BYTES);
  for (let left = lengthBytes; left > 0; left -= block.length) yield block.subarray(0, Math.min(left, block.length));
}
