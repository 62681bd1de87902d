import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import {
  copyFile,
  type FileHandle,
  link,
  lstat,
  open,
  readdir,
  readlink,
  rename,
  rm,
  statfs,
  symlink,
  unlink,
} from 'node:fs/promises';
import { dirname } from 'node:path';
import { QxError } from '../errors.ts';
import type { FileInfo, Files, OpenFile } from '../ports.ts';
import {
  beside,
  hasCode,
  isMissing,
  makeDirectories,
  openRegular,
  replace,
  syncDirectory,
  writeNew,
} from './durable.ts';
import { hostPath } from './host-path.ts';
import { lockFile } from './lock.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW, O_NONBLOCK, COPYFILE_EXCL } = constants;
const READ_SIZE_BYTES = 1 << 20;

/** The files of a host that lives below `root`; '' or '/' is this machine. */
export function hostFiles(root: string): Files {
  const at = (path: string): string => hostPath(root, path);
  return {
    read: (path, maxBytes) => absentAsNull(readBounded(at(path), maxBytes)),
    info: async (path) => fileInfo(await absentAsNull(lstat(at(path)))),
    list: async (directory) => ((await absentAsNull(readdir(at(directory)))) ?? []).sort(),
    readLink: (path) => absentAsNull(readlink(at(path))),
    hash: (path, signal) => hashFile(at(path), signal),
    freeBytes: (path) => freeBytes(at(path)),
    writeAtomic: (path, bytes, mode = 0o644) => replace(at(path), (temporary) => writeNew(temporary, bytes, mode)),
    makeDirectory: (path, mode = 0o755) => makeDirectories(at(path), mode),
    openPart: (path, keepBytes) => openPart(at(path), keepBytes),
    duplicate: (from, to) => duplicate(at(from), at(to)),
    setMode: (path, mode) => setMode(at(path), mode),
    rename: (from, to) => renameDurably(at(from), at(to)),
    linkAtomic: (target, path) => replace(at(path), (temporary) => symlink(target, temporary)),
    remove: (path) => removeTree(at(path), at('/')),
    lock: async (path) => {
      await makeDirectories(dirname(at(path)), 0o755);
      return lockFile(at(path));
    },
  };
}

async function absentAsNull<T>(result: Promise<T>): Promise<T | null> {
  try {
    return await result;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

function fileInfo(stats: Stats | null): FileInfo | null {
  if (stats === null) return null;
  return { kind: kindOf(stats), sizeBytes: stats.size, mode: stats.mode & 0o7777 };
}

function kindOf(stats: Stats): FileInfo['kind'] {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  return stats.isSymbolicLink() ? 'symlink' : 'other';
}

/** Counts what it reads: the size of a file in /proc is 0, and that of a file which grows is no promise. */
async function readBounded(path: string, maxBytes: number): Promise<Uint8Array> {
  const handle = await openRegular(path);
  try {
    const { size } = await handle.stat();
    const chunks: Uint8Array[] = [];
    let total = 0;
    for await (const chunk of chunksOf(handle, Math.min(READ_SIZE_BYTES, maxBytes + 1, Math.max(size + 1, 4096)))) {
      total += chunk.length;
      if (total > maxBytes) throw new QxError('IO', `${path} is larger than ${maxBytes} bytes`);
      chunks.push(Uint8Array.from(chunk));
    }
    return new Uint8Array(Buffer.concat(chunks));
  } finally {
    await handle.close();
  }
}

/** The buffer is reused: a chunk is valid until the next one is asked for. */
async function* chunksOf(handle: FileHandle, sizeBytes: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(sizeBytes);
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, sizeBytes);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

async function hashFile(path: string, signal?: AbortSignal): Promise<{ sha256: string; sizeBytes: number }> {
  const handle = await openRegular(path);
  try {
    const hash = createHash('sha256');
    let sizeBytes = 0;
    for await (const chunk of chunksOf(handle, READ_SIZE_BYTES)) {
      if (signal?.aborted) throw new QxError('CANCELLED', `hashing ${path} was cancelled`);
      hash.update(chunk);
      sizeBytes += chunk.length;
    }
    return { sha256: hash.digest('hex'), sizeBytes };
  } finally {
    await handle.close();
  }
}

/** Of the file system that `path` is on, or would be on once its missing parents exist. */
async function freeBytes(path: string): Promise<number> {
  const stats = await absentAsNull(statfs(path));
  return stats === null ? freeBytes(dirname(path)) : stats.bavail * stats.bsize;
}

async function openPart(path: string, keepBytes: number): Promise<OpenFile> {
  const handle = await open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0o600);
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new QxError('IO', `${path} is not a regular file`);
    // Appending would change the same bytes under the other name too, be it a backup or somebody's planted link.
    if (stats.nlink > 1) throw new QxError('IO', `${path} has a second name`);
    if (stats.size < keepBytes) throw new QxError('IO', `${path} is shorter than ${keepBytes} bytes`);
    await handle.truncate(keepBytes);
    await handle.sync();
    await syncDirectory(dirname(path));
  } catch (error) {
    await handle.close();
    throw error;
  }
  return { append: (bytes) => handle.appendFile(bytes), sync: () => handle.sync(), close: () => handle.close() };
}

const NO_HARD_LINKS = ['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'];

async function duplicate(from: string, to: string): Promise<void> {
  if (!(await lstat(from)).isFile()) throw new QxError('IO', `${from} is not a regular file`);
  try {
    await link(from, to);
  } catch (error) {
    if (!hasCode(error, ...NO_HARD_LINKS)) throw error;
    await copyDurably(from, to);
  }
  await syncDirectory(dirname(to));
}

async function copyDurably(from: string, to: string): Promise<void> {
  if ((await absentAsNull(lstat(to))) !== null) throw new QxError('IO', `${to} is there already`);
  const temporary = beside(to);
  try {
    await copyFile(from, temporary, COPYFILE_EXCL);
    const copy = await openRegular(temporary);
    await copy.sync().finally(() => copy.close());
    await rename(temporary, to);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

async function setMode(path: string, mode: number): Promise<void> {
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  // Between two hard links to one file, POSIX has rename do nothing at all: the old name would stay.
  const left = await absentAsNull(lstat(from));
  if (left?.isFile() && left.ino === (await lstat(to)).ino) await unlink(from);
  await syncDirectory(dirname(to));
  if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
}

async function removeTree(path: string, top: string): Promise<void> {
  if (path === top) throw new QxError('IO', 'refusing to remove the root of the host');
  if ((await absentAsNull(lstat(path))) === null) return;
  await rm(path, { recursive: true, force: true });
  await syncDirectory(dirname(path));
}
