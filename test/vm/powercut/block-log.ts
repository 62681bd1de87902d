import { type FileHandle, open } from 'node:fs/promises';

/** What QEMU's `blklogwrites` wrote down of a disk: every write in the order in which it was given to it, and every flush. */

export const SECTOR_BYTES = 512;

/** `flush` says that everything before it has reached the disk when it ends. */
export type Entry =
  | { readonly kind: 'flush' }
  | {
      readonly kind: 'write';
      readonly sector: number;
      readonly sectors: number;
      /** Where its bytes are in the file of the log. */
      readonly dataAt: number;
    };

export type LoggedWrite = Extract<Entry, { kind: 'write' }>;

export interface BlockLog extends AsyncDisposable {
  readonly entries: readonly Entry[];
  /** The bytes of these sectors of a write, counted from its start. */
  read(write: LoggedWrite, from: number, to: number): Promise<Buffer>;
}

const MAGIC = 0x6a736677736872n;
const VERSION = 1n;
const FLAG = { flush: 1, discard: 4 } as const;
const HEAD_BYTES = 32;

/** @throws Error when it is not such a log, or one that ends before its last entry */
export async function openBlockLog(path: string): Promise<BlockLog> {
  const file = await open(path);
  try {
    const entries = await readEntries(file, path);
    return {
      entries,
      read: async ({ dataAt }, from, to) => {
        const bytes = Buffer.alloc((to - from) * SECTOR_BYTES);
        await file.read(bytes, 0, bytes.length, dataAt + from * SECTOR_BYTES);
        return bytes;
      },
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readEntries(file: FileHandle, path: string): Promise<readonly Entry[]> {
  const head = Buffer.alloc(SECTOR_BYTES);
  await file.read(head, 0, SECTOR_BYTES, 0);
  if (head.readBigUInt64LE(0) !== MAGIC || head.readBigUInt64LE(8) !== VERSION) throw new Error(`${path} is no log`);
  if (head.readUInt32LE(24) !== SECTOR_BYTES) throw new Error(`${path} counts in other sectors`);
  const count = Number(head.readBigUInt64LE(16));
  const entries: Entry[] = [];
  let at = SECTOR_BYTES;
  for (let i = 0; i < count; i++) {
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, at);
    if (bytesRead < HEAD_BYTES) throw new Error(`${path} ends after ${i} of ${count} entries`);
    const [sector, sectors, flags] = [0, 8, 16].map((offset) => Number(head.readBigUInt64LE(offset))) as [
      number,
      number,
      number,
    ];
    if ((flags & FLAG.flush) !== 0) entries.push({ kind: 'flush' });
    const hasData = (flags & FLAG.discard) === 0;
    if (hasData && sectors > 0) entries.push({ kind: 'write', sector, sectors, dataAt: at + SECTOR_BYTES });
    at += SECTOR_BYTES + (hasData ? sectors * SECTOR_BYTES : 0);
  }
  return entries;
}
