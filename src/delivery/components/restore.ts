import { posix } from 'node:path';
import { QxError } from '../../errors.ts';
import type { ComponentEntry } from '../../format/journal.ts';
import type { Files } from '../../ports.ts';
import { forgetContents, hashContents } from './contents.ts';
import type { UndoContext } from './context.ts';
import { linkTarget, placesOf, treeAt } from './places.ts';
import { writeInstalled } from './versions.ts';

/**
 * One component back to what it was. Decides by what is on the disk and repeats without harm, because the power may have gone
 * before the swap, after it, or in the middle of an earlier attempt to undo it.
 */
export async function restore(entry: ComponentEntry, context: UndoContext): Promise<void> {
  const { files, paths, log } = context;
  await files.remove(placesOf(entry).fresh);
  if (entry.state === 'pending') return;
  if (entry.tree === undefined) await restoreFile(entry, context);
  else await restoreTree(entry, entry.tree, context);
  const { name, version, previous_version: previous } = entry;
  await writeInstalled(files, paths.versions, name, previous);
  if (version === previous) return;
  // A note too many says nothing of what is installed: it is no reason to call an undo failed.
  await forgetContents(files, paths.versions, name, version).catch((error: unknown) => {
    log.warn('note_not_removed', { name, version, detail: String(error) });
  });
}

async function restoreFile(entry: ComponentEntry, { files }: UndoContext): Promise<void> {
  const { path, restoring } = placesOf(entry);
  await files.remove(restoring);
  if (entry.backup === null) return files.remove(path);
  if ((await files.info(entry.backup)) === null) throw noBackup(entry);
  await expectWhole(entry, files);
  // A second name for the backup's bytes, so that the backup itself stays for the next attempt. By rename, because the file may
  // be a program that runs, and that cannot be written to.
  await files.duplicate(entry.backup, restoring);
  await files.rename(restoring, path);
}

async function restoreTree(entry: ComponentEntry, tree: string, { files }: UndoContext): Promise<void> {
  const { path } = placesOf(entry);
  const there = await files.info(path);
  if (entry.backup === null) {
    if (there?.kind === 'symlink') await files.remove(path);
  } else if ((await files.info(entry.backup)) !== null) {
    await expectWhole(entry, files);
    if ((await treeAt(files, path)) !== entry.backup) await files.linkAtomic(linkTarget(path, entry.backup), path);
  } else if (there?.kind !== 'directory') {
    // A plain folder that is still in its place was not moved yet; anything else has lost its way back.
    throw noBackup(entry);
  }
  await files.remove(tree);
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
  await files.remove(entry.tree === undefined ? posix.dirname(entry.backup) : entry.backup);
}
