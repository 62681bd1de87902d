import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { isCode, QxError } from '../../errors.ts';
import { hasCode } from '../durable.ts';

const READ_BYTES = 1 << 18;
/** What a stranger's frame may make us allocate: 128 MiB, which is what `zstd --long` uses. */
const MAX_WINDOW_LOG = 27;
const OUTPUT = { chunkSize: READ_BYTES, rejectGarbageAfterEnd: true };

export interface Expected {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/**
 * Hands the decompressed bytes of an open file to `consume`, hashing the compressed ones as they are read: what was consumed is
 * what was signed, although somebody may write to the file meanwhile. Only once this returns is any of it to be believed.
 * @throws QxError HASH_MISMATCH | SIZE_MISMATCH | ARCHIVE_MALFORMED | ARCHIVE_TOO_LARGE, or what `consume` throws
 */
export async function decompress(
  handle: FileHandle,
  expected: Expected,
  consume: (chunks: AsyncIterable<Uint8Array>) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  try {
    await decompressAll(handle, expected, consume, signal);
  } catch (error) {
    // Whoever swaps the bytes chooses how they fail to unpack, and the release that they are not of must not be blamed for it.
    if (isCode(error, 'ARCHIVE_UNSAFE', 'ARCHIVE_MALFORMED', 'ARCHIVE_TOO_LARGE')) await expectSigned(handle, expected);
    throw error;
  }
}

async function expectSigned(handle: FileHandle, expected: Expected): Promise<void> {
  const hash = createHash('sha256');
  for await (const piece of hashed(handle, expected, hash)) void piece;
  expectHash(hash, expected);
}

async function decompressAll(
  handle: FileHandle,
  expected: Expected,
  consume: (chunks: AsyncIterable<Uint8Array>) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const hash = createHash('sha256');
  const decompressor = await decompressorFor(handle);
  const source = Readable.from(hashed(handle, expected, hash), { objectMode: false });
  try {
    await pipeline(source, decompressor, consume, signal === undefined ? {} : { signal });
  } catch (error) {
    throw asRefusal(error, signal);
  }
  if (decompressor.bytesWritten !== expected.sizeBytes) {
    throw new QxError('ARCHIVE_MALFORMED', 'something follows the end of the compressed archive');
  }
  expectHash(hash, expected);
}

function expectHash(hash: Hash, expected: Expected): void {
  const sha256 = hash.digest('hex');
  if (sha256 === expected.sha256) return;
  throw new QxError('HASH_MISMATCH', `archive has SHA-256 ${sha256} where ${expected.sha256} was signed`);
}

async function decompressorFor(handle: FileHandle) {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
  const magic = buffer.subarray(0, bytesRead);
  if (magic[0] === 0x1f && magic[1] === 0x8b) return createGunzip(OUTPUT);
  if (magic.toString('hex') === '28b52ffd') {
    return createZstdDecompress({ ...OUTPUT, params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG } });
  }
  throw new QxError('ARCHIVE_MALFORMED', 'archive is neither zstd nor gzip');
}

async function* hashed(
  handle: FileHandle,
  { sizeBytes }: Expected,
  hash: { update(bytes: Uint8Array): unknown },
): AsyncGenerator<Uint8Array> {
  const isLonger = (await handle.stat()).size !== sizeBytes;
  let position = 0;
  while (!isLonger && position < sizeBytes) {
    const length = Math.min(READ_BYTES, sizeBytes - position);
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(length), 0, length, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    const piece = buffer.subarray(0, bytesRead);
    hash.update(piece);
    yield piece;
  }
  if (position !== sizeBytes)
    throw new QxError('SIZE_MISMATCH', `archive does not have the ${sizeBytes} bytes that were signed`);
}

function asRefusal(error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof QxError) return error;
  if (signal?.aborted) return new QxError('CANCELLED', 'unpacking was cancelled', { cause: error });
  const reason = error instanceof Error ? error.message : String(error);
  if (hasCode(error, 'ZSTD_error_frameParameter_windowTooLarge')) {
    return new QxError('ARCHIVE_TOO_LARGE', `archive: ${reason}`, { cause: error });
  }
  // zlib names its errors Z_..., ZSTD_... or ERR_...; what the disk reports has the name of a system call.
  const isOurs = error instanceof Error && 'syscall' in error;
  return isOurs ? error : new QxError('ARCHIVE_MALFORMED', `archive: ${reason}`, { cause: error });
}
