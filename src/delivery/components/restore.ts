import { posix } from 'node:path';
import { QxError } from '../../errors.ts';
import type { ComponentEntry } from '../../format/journal.ts';
import type { Files } from '../../ports.ts';
import { forgetContents, hashContents } from './contents.ts';
import type { UndoContext } from './context.ts';
import { isFileBackup, linkTarget, placesOf, treeAt } from './places.ts';
import { writeInstalled } from './versions.ts';

/**
 * One component back to what it was. Decides by what is on the disk and repeats without harm, because the power may have gone
 * before the swap, after it, or in the middle of an earlier attempt to undo it.
 */
export async function restore(entry: ComponentEntry, context: UndoContext): Promise<void> {
  const { files, paths, log } = context;
  await files.remove(placesOf(entry).fresh);
  if (entry.state === 'pending') return;
  await putBack(entry, files);
  const { name, version, previous_version: previous } = entry;
  await writeInstalled(files, paths.versions, name, previous);
  if (version === previous) return;
  // A note too many says nothing of what is installed: it is no reason to call an undo failed.
  await forgetContents(files, paths.versions, name, version).catch((error: unknown) => {
    log.warn('note_not_removed', { name, version, detail: String(error) });
  });
}

async function putBack(entry: ComponentEntry, files: Files): Promise<void> {
  const { backup, tree } = entry;
  const { path } = placesOf(entry);
  if (backup === null) {
    // Of a folder nothing has its name yet, unless the link has.
    if (tree === undefined || (await files.info(path))?.kind === 'symlink') await files.remove(path);
  } else if (isFileBackup(backup)) await putFileBack(entry, backup, files);
  else await putTreeBack(entry, backup, files);
  if (tree !== undefined) await files.remove(tree);
}

async function putFileBack(entry: ComponentEntry, backup: string, files: Files): Promise<void> {
  const { path, restoring } = placesOf(entry);
  await files.remove(restoring);
  if ((await files.info(backup)) === null) throw noBackup(entry);
  await expectWhole(entry, files);
  // A second name for the backup's bytes, so that the backup itself stays for the next attempt. By rename, because the file may
  // be a program that runs, and that cannot be written to.
  await files.duplicate(backup, restoring);
  await files.rename(restoring, path);
}

async function putTreeBack(entry: ComponentEntry, backup: string, files: Files): Promise<void> {
  const { path } = placesOf(entry);
  if ((await files.info(backup)) !== null) {
    await expectWhole(entry, files);
    if ((await treeAt(files, path)) !== backup) await files.linkAtomic(linkTarget(path, backup), path);
  } else if ((await files.info(path))?.kind !== 'directory') {
    // A plain folder that is still in its place was not moved yet; anything else has lost its way back.
    throw noBackup(entry);
  }
}

const noBackup = ({ name, backup }: ComponentEntry): QxError =>
  new QxError('NOT_FOUND', `the backup of ${name} is gone: ${backup}`, {
    next: `qx-update apply installs ${name} again`,
  });

/** When it is there, and not what was replaced any more. Of what an older agent backed up nothing is known. */
export async function spoiltBackup(
  { name, backup, backup_sha256 }: ComponentEntry,
  files: Files,
): Promise<QxError | null> {
  if (backup === null || backup_sha256 === undefined || (await files.info(backup)) === null) return null;
  if ((await hashContents(files, backup)) === backup_sha256) return null;
  return new QxError('HASH_MISMATCH', `the backup of ${name} is not what was replaced any more: ${backup}`, {
    next: `qx-update apply installs ${name} again`,
  });
}

async function expectWhole(entry: ComponentEntry, files: Files): Promise<void> {
  const spoilt = await spoiltBackup(entry, files);
  if (spoilt !== null) throw spoilt;
}

/** A transaction that keeps no backup had one until it was settled. */
export async function dropBackup(entry: ComponentEntry, { files }: UndoContext): Promise<void> {
  if (entry.backup === null) return;
  await files.remove(isFileBackup(entry.backup) ? posix.dirname(entry.backup) : entry.backup);
}
