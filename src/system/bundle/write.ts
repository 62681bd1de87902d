import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { QxError } from '../../errors.ts';
import type { BundleMember, BundleWriter } from '../../ports/bundle.ts';
import { hasCode, isMissing, openRegular, replace } from '../durable.ts';
import { END_BYTES, entryHeader, paddingBytes } from './layout.ts';

const READ_BYTES = 256 * 1024;

export const bundleWriter = (): BundleWriter => ({ write });

const write: BundleWriter['write'] = async (target, members, onBytes) => {
  const sizeBytes = members.reduce((sum, { name, sizeBytes: size }) => {
    return sum + entryHeader(name, size).length + size + paddingBytes(size);
  }, END_BYTES);
  const there = await lstat(target).catch((error) => (isMissing(error) ? null : Promise.reject(error)));
  const hash = createHash('sha256');
  const bytes = async function* (): AsyncGenerator<Uint8Array> {
    let doneBytes = 0;
    for await (const piece of bytesOf(members)) {
      hash.update(piece);
      doneBytes += piece.length;
      onBytes(doneBytes, sizeBytes);
      yield piece;
    }
  };
  if (there !== null) {
    // A bundle of another size is another bundle: not worth reading the image for.
    if (!there.isFile() || there.size !== sizeBytes) throw occupied(target);
    for await (const _ of bytes());
  } else {
    await replace(target, (temporary) => writeTo(temporary, bytes()));
  }
  const sha256 = hash.digest('hex');
  if (there !== null && (await hashOf(target)) !== sha256) throw occupied(target);
  return { sha256, sizeBytes, isNew: there === null };
};

async function writeTo(path: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    await pipeline(
      Readable.from(bytes, { objectMode: false }),
      createWriteStream(path, { flags: 'wx', mode: 0o644, flush: true }),
    );
  } catch (error) {
    if (!hasCode(error, 'EFBIG')) throw error;
    throw new QxError('NO_SPACE', 'the file system there takes no file as large as this bundle', {
      next: 'FAT32 ends at 4 GiB: format the stick as exFAT or ext4',
      cause: error,
    });
  }
}

const occupied = (path: string): QxError =>
  new QxError('REFUSED_OVERWRITE', `${path} is there, is not this bundle, and stays as it is`, {
    next: 'name another file: --out FILE',
  });

async function* bytesOf(members: readonly BundleMember[]): AsyncGenerator<Uint8Array> {
  for (const member of members) {
    yield entryHeader(member.name, member.sizeBytes);
    if (member.content instanceof Uint8Array) yield member.content;
    else yield* checked(member, member.content.path);
    yield Buffer.alloc(paddingBytes(member.sizeBytes));
  }
  yield Buffer.alloc(END_BYTES);
}

/** What goes into the bundle is what was signed, also when somebody writes to the file while it is copied. */
async function* checked({ name, sizeBytes, sha256 }: BundleMember, path: string): AsyncGenerator<Uint8Array> {
  const handle = await openRegular(path);
  const hash = createHash('sha256');
  let copiedBytes = 0;
  for await (const piece of createReadStream('', { fd: handle, highWaterMark: READ_BYTES })) {
    copiedBytes += piece.length;
    if (copiedBytes > sizeBytes) break;
    hash.update(piece);
    yield piece;
  }
  if (copiedBytes !== sizeBytes) throw new QxError('SIZE_MISMATCH', `${name} changed while it was copied`);
  if (hash.digest('hex') !== sha256) throw new QxError('HASH_MISMATCH', `${name} changed while it was copied`);
}

async function hashOf(path: string): Promise<string> {
  const handle = await openRegular(path);
  const hash = createHash('sha256');
  for await (const piece of createReadStream('', { fd: handle, highWaterMark: READ_BYTES })) hash.update(piece);
  return hash.digest('hex');
}
