import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { QxError } from '../../errors.ts';
import type { SlotDevice } from '../../ports.ts';
import { hasCode } from '../durable.ts';
import { ALIGNMENT_BYTES, alignedMemory } from './aligned.ts';

/** Reads a slot as the medium has it. The page cache would answer with what we have just written, whatever became of it. */

const { O_RDONLY, O_DIRECT } = constants;
const BUFFER_BYTES = 1 << 20;

export type FlushCache = (device: SlotDevice) => Promise<void>;

/** Pieces are valid until the next one is asked for; while one is looked at, the one after it is read already. */
export async function* readMedium(
  device: SlotDevice,
  offset: number,
  lengthBytes: number,
  flushCache: FlushCache,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const handle = await openMedium(device, flushCache);
  const end = offset + lengthBytes;
  const readFrom = async (at: number, memory: Uint8Array): Promise<Uint8Array> => {
    const aligned = at - (at % ALIGNMENT_BYTES);
    const wanted = Math.min(BUFFER_BYTES, roundUp(end - aligned));
    const { bytesRead } = await handle.read(memory, 0, wanted, aligned);
    const piece = memory.subarray(at - aligned, Math.min(bytesRead, end - aligned));
    if (piece.length === 0) throw new QxError('IO', `${device.path} ends at ${aligned + bytesRead}, before ${end}`);
    return piece;
  };
  const begin = (at: number, memory: Uint8Array): Promise<Uint8Array> => {
    const reading = readFrom(at, memory);
    // Whoever stops before it is asked for does not want to know.
    reading.catch(() => undefined);
    return reading;
  };
  try {
    let [memory, other] = [alignedMemory(BUFFER_BYTES), alignedMemory(BUFFER_BYTES)];
    let reading = offset < end ? begin(offset, memory) : null;
    for (let at = offset; reading !== null; ) {
      if (signal?.aborted) throw new QxError('CANCELLED', 'reading the slot back was cancelled');
      const piece: Uint8Array = await reading;
      at += piece.length;
      [memory, other] = [other, memory];
      reading = at < end ? begin(at, memory) : null;
      yield piece;
    }
  } finally {
    // Waits for what is still being read.
    await handle.close();
  }
}

const roundUp = (bytes: number): number => Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;

async function openMedium(device: SlotDevice, flushCache: FlushCache): Promise<FileHandle> {
  try {
    const handle = await open(device.path, O_RDONLY | O_DIRECT);
    const probe = alignedMemory(ALIGNMENT_BYTES);
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
