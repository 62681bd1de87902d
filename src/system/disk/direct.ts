import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { QxError } from '../../errors.ts';
import type { SlotDevice } from '../../ports.ts';
import { hasCode } from '../durable.ts';

/**
 * Reads a slot as the medium has it. The page cache would answer with what we have just written, whatever became of it.
 *
 * O_DIRECT wants offset, length and memory in multiples of the device's block. Node's own buffers begin 16 bytes into a page
 * and are refused (EINVAL on every loop device that was tried); a resizable ArrayBuffer is mapped by itself, so it begins a
 * page.
 */

const { O_RDONLY, O_DIRECT } = constants;
/** A multiple of every block size in use. */
const ALIGNMENT_BYTES = 4096;
const BUFFER_BYTES = 1 << 20;

export type FlushCache = (device: SlotDevice) => Promise<void>;

/** Pieces are valid until the next one is asked for. */
export async function* readMedium(
  device: SlotDevice,
  offset: number,
  lengthBytes: number,
  flushCache: FlushCache,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const handle = await openMedium(device, flushCache);
  try {
    const memory = new Uint8Array(new ArrayBuffer(BUFFER_BYTES, { maxByteLength: BUFFER_BYTES }));
    const end = offset + lengthBytes;
    for (let at = offset; at < end; ) {
      if (signal?.aborted) throw new QxError('CANCELLED', 'reading the slot back was cancelled');
      const aligned = at - (at % ALIGNMENT_BYTES);
      const wanted = Math.min(BUFFER_BYTES, roundUp(end - aligned));
      const { bytesRead } = await handle.read(memory, 0, wanted, aligned);
      const piece = memory.subarray(at - aligned, Math.min(bytesRead, end - aligned));
      if (piece.length === 0) throw new QxError('IO', `${device.path} ends at ${aligned + bytesRead}, before ${end}`);
      yield piece;
      at += piece.length;
    }
  } finally {
    await handle.close();
  }
}

const roundUp = (bytes: number): number => Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;

async function openMedium(device: SlotDevice, flushCache: FlushCache): Promise<FileHandle> {
  try {
    const handle = await open(device.path, O_RDONLY | O_DIRECT);
    const probe = new Uint8Array(new ArrayBuffer(ALIGNMENT_BYTES, { maxByteLength: ALIGNMENT_BYTES }));
    const works = await handle.read(probe, 0, ALIGNMENT_BYTES, 0).then(
      () => true,
      (error) => (hasCode(error, 'EINVAL') ? false : handle.close().then(() => Promise.reject(error))),
    );
    if (works) return handle;
    await handle.close();
  } catch (error) {
    if (!hasCode(error, 'EINVAL')) throw error;
  }
  // A file system without O_DIRECT, or a device with larger blocks: the next best is a cache that was emptied just now.
  await flushCache(device);
  return open(device.path, O_RDONLY);
}
