import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { QxError } from '../../errors.ts';
import type { OpenDevice, SlotDevice } from '../../ports.ts';
import { hasCode } from '../durable.ts';
import { alignedMemory, isAligned } from './aligned.ts';

/**
 * Writes to a slot, one block behind: while the device takes one, the caller makes the next. Whole blocks go past the page
 * cache, where an image would be copied once more and push out everything else.
 */

const { O_WRONLY, O_EXCL, O_NOFOLLOW, O_DIRECT } = constants;
const BLOCK_BYTES = 1 << 20;
/** What may wait in the page cache when there is no way past it: a whole image there would make one fsync take minutes. */
const MAX_DIRTY_BYTES = 32 << 20;

/** @throws QxError SLOT_RUNNING when the kernel has the device in use */
export async function openDevice(device: SlotDevice): Promise<OpenDevice> {
  const exclusive = await openExclusively(device);
  const target: Target = { exclusive, direct: await openDirectly(device), dirtyBytes: 0 };
  const memory = alignedMemory(BLOCK_BYTES);
  const behind: { write: Promise<void> | null } = { write: null };
  const settle = async (): Promise<void> => {
    const { write } = behind;
    behind.write = null;
    await write;
  };
  return {
    write: async (offset, bytes) => {
      // A file that stands in for a device would grow where the device has its end.
      if (offset < 0 || offset + bytes.length > device.sizeBytes) {
        const end = offset + bytes.length;
        throw new QxError('SLOT_TOO_SMALL', `${device.path} has ${device.sizeBytes} bytes, not ${end}`, {
          next: 'publish a smaller image, or make both slots larger',
        });
      }
      for (let done = 0; done < bytes.length; done += BLOCK_BYTES) {
        const part = bytes.subarray(done, done + BLOCK_BYTES);
        await settle();
        memory.set(part);
        behind.write = writeBlock(target, offset + done, memory.subarray(0, part.length));
        // Told by the next call, which may come later than the failure.
        behind.write.catch(() => undefined);
      }
    },
    sync: async () => {
      await settle();
      // Of the device, whichever way the bytes went, and of its own cache.
      await exclusive.sync();
      target.dirtyBytes = 0;
    },
    close: async () => {
      await settle().catch(() => undefined);
      await target.direct?.close();
      await exclusive.close();
    },
  };
}

/** Without O_CREAT, O_EXCL on a block device means: not while it is mounted, swapped to or held by another device. */
async function openExclusively(device: SlotDevice): Promise<FileHandle> {
  const flags = O_WRONLY | O_NOFOLLOW | (device.kind === 'block' ? O_EXCL : 0);
  try {
    return await open(device.path, flags);
  } catch (error) {
    if (!hasCode(error, 'EBUSY')) throw error;
    throw new QxError('SLOT_RUNNING', `${device.path} is in use`, { cause: error, next: 'unmount it first' });
  }
}

/** Null where the page cache is the only way. */
async function openDirectly(device: SlotDevice): Promise<FileHandle | null> {
  if (device.kind === 'file') return null;
  return open(device.path, O_WRONLY | O_NOFOLLOW | O_DIRECT).catch(() => null);
}

interface Target {
  readonly exclusive: FileHandle;
  direct: FileHandle | null;
  dirtyBytes: number;
}

async function writeBlock(target: Target, offset: number, bytes: Uint8Array): Promise<void> {
  if (target.direct !== null && isAligned(offset) && isAligned(bytes.length)) {
    try {
      return await writeAll(target.direct, offset, bytes);
    } catch (error) {
      // Blocks that no memory of ours is aligned to.
      if (!hasCode(error, 'EINVAL')) throw error;
      await target.direct.close();
      target.direct = null;
    }
  }
  await writeAll(target.exclusive, offset, bytes);
  target.dirtyBytes += bytes.length;
  if (target.dirtyBytes < MAX_DIRTY_BYTES) return;
  await target.exclusive.datasync();
  target.dirtyBytes = 0;
}

async function writeAll(handle: FileHandle, offset: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
    if (bytesWritten === 0) throw new QxError('IO', `the device took nothing at ${offset + done}`);
    done += bytesWritten;
  }
}
