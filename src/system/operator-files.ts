import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { QxError } from '../errors.ts';
import { hasCode, syncDirectory, writeNew } from './durable.ts';

/** Files that an operator names on a command line, where links are the operator's own choice and not an attack. */

/** Absolute, links followed. Of a file that is yet to be made, its folder's. */
export async function followed(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  const folder = dirname(resolve(path));
  return join(await realpath(folder).catch(() => folder), basename(path));
}

/** Fails where something is already under the name, even when it appears in the same instant. @throws REFUSED_OVERWRITE */
export async function createFile(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  try {
    await writeNew(path, bytes, mode);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    throw new QxError('REFUSED_OVERWRITE', `${path} is already there and stays as it is`, {
      next: 'choose another name, or move it away',
      cause: error,
    });
  }
  await syncDirectory(dirname(path));
}

export async function inTemporaryDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'qx-release-'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
