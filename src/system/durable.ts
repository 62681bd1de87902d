import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { QxError } from '../errors.ts';

/** The few sequences by which something is on the disk, and not only in its cache, when a call returns. */

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

export const isMissing = (error: unknown): boolean => hasCode(error, 'ENOENT', 'ENOTDIR');

export const hasCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof Error && codes.includes(String((error as { code?: unknown }).code));

/** A name that is created, renamed or unlinked is on the disk only once its directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, O_RDONLY | O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** O_NONBLOCK, because opening a fifo that somebody planted would wait for a writer for ever. */
export async function openRegular(path: string): Promise<FileHandle> {
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new QxError('IO', `${path} is not a regular file`, {
    next: 'name a file: what is there is a folder, a link or a device',
  });
}

/** O_EXCL neither follows a symlink that waits under the name nor writes into a file that somebody else keeps open. */
export const createNew = (path: string, mode = 0o600): Promise<FileHandle> =>
  open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);

/**
 * A name in the same directory, hence on the same file system. It is unique: of two writers with one name, the first could
 * rename what the second has only begun to write.
 */
export const beside = (path: string): string =>
  join(dirname(path), `.${basename(path).slice(0, 180)}.${randomBytes(6).toString('hex')}.qx-new`);

export async function writeNew(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const handle = await createNew(path);
  try {
    await handle.writeFile(bytes);
    // Not by `open`, where the caller's umask would take bits away.
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Prepares something under a name beside `path`, then makes it visible under `path` in one rename. */
export async function replace(path: string, prepare: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = beside(path);
  try {
    await prepare(temporary);
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Refuses a symlink in the last place: whoever could plant it would choose where we write. */
export async function makeDirectories(path: string, mode: number): Promise<void> {
  const there = await lstat(path).catch((error) => (hasCode(error, 'ENOENT') ? null : Promise.reject(error)));
  if (there?.isDirectory()) return;
  if (there !== null) throw new QxError('IO', `${path} is there and is not a directory`, { next: 'move it away' });
  const parent = dirname(path);
  // Above, symlinks are the system's own business (/var/run).
  if (!(await isDirectory(parent))) await makeDirectories(parent, 0o755);
  try {
    await mkdir(path, mode);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    return makeDirectories(path, mode);
  }
  const handle = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await syncDirectory(parent);
}

async function isDirectory(path: string): Promise<boolean> {
  const handle = await open(path, O_RDONLY | O_DIRECTORY).catch((error) =>
    isMissing(error) ? null : Promise.reject(error),
  );
  await handle?.close();
  return handle !== null;
}
