import { createHash } from 'node:crypto';
import { QxError } from '../../errors.ts';
import type { Ranges } from '../../ports/serving.ts';

/** Bytes of an image and where they belong: from a staged file, or one day from chunks as they arrive. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Content {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** One that is looked at, and one that is read ahead. */
const BUFFERS = 2;

/** One descriptor from the first byte to the last: a file that is renamed over the path meanwhile is never looked at. */
export async function* piecesOfFile(ranges: Ranges, path: string, sizeBytes: number): AsyncGenerator<Piece> {
  let offset = 0;
  for await (const bytes of ahead(await ranges.openRange(path, 0, sizeBytes, BUFFERS))) {
    yield { offset, bytes };
    offset += bytes.length;
  }
}

/** The disk reads the next piece while this one is hashed. */
async function* ahead<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  const items = source[Symbol.asyncIterator]();
  const ask = (): Promise<IteratorResult<T>> => {
    const asked = items.next();
    // Whoever stops before it is there does not want to know.
    asked.catch(() => undefined);
    return asked;
  };
  try {
    for (let next = ask(); ; ) {
      const { done, value } = await next;
      if (done === true) return;
      next = ask();
      yield value;
    }
  } finally {
    await items.return?.();
  }
}

/**
 * Pieces as blocks of one size (the last one may be shorter), counted and hashed on their way. What was verified when it was
 * staged may have been written to since, through a descriptor that somebody kept: only this hash speaks of these bytes.
 * A block is valid until the next one is asked for.
 * @throws QxError SIZE_MISMATCH | HASH_MISMATCH, the latter after the last block
 */
export async function* verifiedBlocks(
  pieces: AsyncIterable<Piece>,
  content: Content,
  blockBytes: number,
): AsyncGenerator<Piece> {
  const hash = createHash('sha256');
  const block = new Uint8Array(blockBytes);
  let done = 0;
  let filled = 0;
  for await (const { offset, bytes } of pieces) {
    if (offset !== done + filled) throw sizeMismatch(`goes on at ${offset} instead of ${done + filled}`);
    if (offset + bytes.length > content.sizeBytes) throw sizeMismatch(`is longer than the ${content.sizeBytes} signed`);
    hash.update(bytes);
    for (let taken = 0; taken < bytes.length; ) {
      const part = bytes.subarray(taken, taken + blockBytes - filled);
      block.set(part, filled);
      filled += part.length;
      taken += part.length;
      if (filled < blockBytes) continue;
      yield { offset: done, bytes: block };
      done += filled;
      filled = 0;
    }
  }
  if (done + filled < content.sizeBytes) throw sizeMismatch(`ends at ${done + filled} of ${content.sizeBytes} bytes`);
  if (filled > 0) yield { offset: done, bytes: block.subarray(0, filled) };
  if (hash.digest('hex') !== content.sha256) {
    throw new QxError('HASH_MISMATCH', 'the image is not the one that was signed', { next: 'download it again' });
  }
}

const sizeMismatch = (why: string): QxError => new QxError('SIZE_MISMATCH', `the image ${why}`);
