import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { QxError } from '../../errors.ts';
import type { OpenDevice, SlotDevice } from '../../ports.ts';
import { hasCode } from '../durable.ts';

const { O_WRONLY, O_EXCL, O_NOFOLLOW } = constants;
/** What may wait in the page cache: a whole image there would push out everything else, and one fsync take minutes. */
const MAX_DIRTY_BYTES = 32 << 20;

/** @throws QxError SLOT_RUNNING when the kernel has the device in use */
export async function openDevice(device: SlotDevice): Promise<OpenDevice> {
  const handle = await openExclusively(device);
  const dirty = { bytes: 0 };
  return {
    write: async (offset, bytes) => {
      // A file that stands in for a device would grow where the device has its end.
      if (offset < 0 || offset + bytes.length > device.sizeBytes) {
        throw new QxError(
          'SLOT_TOO_SMALL',
          `${device.path} has ${device.sizeBytes} bytes, not ${offset + bytes.length}`,
        );
      }
      await writeAll(handle, offset, bytes);
      dirty.bytes += bytes.length;
      if (dirty.bytes < MAX_DIRTY_BYTES) return;
      await handle.datasync();
      dirty.bytes = 0;
    },
    sync: async () => {
      await handle.sync();
      dirty.bytes = 0;
    },
    close: () => handle.close(),
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

async function writeAll(handle: FileHandle, offset: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
    if (bytesWritten === 0) throw new QxError('IO', `the device took nothing at ${offset + done}`);
    done += bytesWritten;
  }
}
