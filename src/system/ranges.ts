import type { FileHandle } from 'node:fs/promises';
import { QxError } from '../errors.ts';
import type { Ranges } from '../ports/serving.ts';
import { openRegular } from './durable.ts';
import { hostPath } from './host-path.ts';

const PIECE_BYTES = 256 * 1024;

/** Files below `root`, read a piece at a time: what is in memory does not grow with the file. */
export const hostRanges = (root: string): Ranges => ({
  openRange: async (path, start, end) => {
    const handle = await openRegular(hostPath(root, path));
    return { [Symbol.asyncIterator]: () => piecesOf(handle, start, end) };
  },
});

/** No generator: one that is given up before its first piece would never run its `finally`, and leave the file open. */
function piecesOf(handle: FileHandle, start: number, end: number): AsyncIterator<Uint8Array> {
  const position = { at: start };
  const finish = async () => {
    await handle.close();
    return { done: true, value: undefined } as const;
  };
  return {
    next: async () => {
      if (position.at >= end) return finish();
      const value = await readPiece(handle, position.at, end).catch(async (error) => {
        await handle.close();
        throw error;
      });
      position.at += value.length;
      return { done: false, value };
    },
    return: finish,
  };
}

async function readPiece(handle: FileHandle, at: number, end: number): Promise<Uint8Array> {
  // A new buffer each time: the one before may still wait in the socket's queue.
  const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(Math.min(PIECE_BYTES, end - at)), 0, null, at);
  // Cutting the connection is the only way left to say that the rest is missing: the length was announced.
  if (bytesRead === 0) throw new QxError('SIZE_MISMATCH', 'the file became shorter while it was read');
  return buffer.subarray(0, bytesRead);
}
