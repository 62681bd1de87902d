import type { FileHandle } from 'node:fs/promises';
import { QxError } from '../errors.ts';
import type { Ranges } from '../ports/serving.ts';
import { openRegular } from './durable.ts';
import { hostPath } from './host-path.ts';

const PIECE_BYTES = 256 * 1024;
/** What each reader of a file over the network may hold while he does not read: two or three of these. */
const SHARED_PIECE_BYTES = 64 * 1024;

/** Files below `root`, read a piece at a time: what is in memory does not grow with the file. */
export const hostRanges = (root: string): Ranges => ({
  openRange: async (path, start, end, buffers) => {
    const handle = await openRegular(hostPath(root, path));
    return { [Symbol.asyncIterator]: () => piecesOf(handle, start, end, memoryFor(buffers)) };
  },
});

type Memory = (sizeBytes: number) => Buffer;

/** A new buffer each time unless they are used in turn: a piece may wait in a socket's queue when the next is read. */
function memoryFor(buffers: number | undefined): Memory {
  if (buffers === undefined) return (sizeBytes) => Buffer.allocUnsafe(Math.min(sizeBytes, SHARED_PIECE_BYTES));
  const turns = Array.from({ length: buffers }, () => Buffer.allocUnsafe(PIECE_BYTES));
  let turn = 0;
  return (sizeBytes) => (turns[turn++ % buffers] as Buffer).subarray(0, sizeBytes);
}

/** No generator: one that is given up before its first piece would never run its `finally`, and leave the file open. */
function piecesOf(handle: FileHandle, start: number, end: number, memory: Memory): AsyncIterator<Uint8Array> {
  const position = { at: start };
  const finish = async () => {
    await handle.close();
    return { done: true, value: undefined } as const;
  };
  return {
    next: async () => {
      if (position.at >= end) return finish();
      const into = memory(Math.min(PIECE_BYTES, end - position.at));
      const value = await readPiece(handle, position.at, into).catch(async (error) => {
        await handle.close();
        throw error;
      });
      position.at += value.length;
      return { done: false, value };
    },
    return: finish,
  };
}

async function readPiece(handle: FileHandle, at: number, memory: Buffer): Promise<Uint8Array> {
  const { bytesRead } = await handle.read(memory, 0, null, at);
  // Cutting the connection is the only way left to say that the rest is missing: the length was announced.
  if (bytesRead === 0) throw new QxError('SIZE_MISMATCH', 'the file became shorter while it was read');
  return memory.subarray(0, bytesRead);
}
