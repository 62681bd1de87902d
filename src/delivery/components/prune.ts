import { posix } from 'node:path';
import type { ComponentEntry } from '../../format/journal.ts';
import type { Files } from '../../ports.ts';
import type { UndoContext } from './context.ts';
import { isStamped, placesOf, treeAt } from './places.ts';

/** Keeps the newest backups of a component, and always those that this update may still go back to. */
export async function prune(entry: ComponentEntry, context: UndoContext): Promise<void> {
  const { files, paths, maxBackups } = context;
  const own = entry.backup === null ? [] : [entry.backup, posix.dirname(entry.backup)];
  await keepNewest(files, paths.backupsOf(entry.name), maxBackups, own);
  const { path, trees } = placesOf(entry);
  const inUse = await treeAt(files, path);
  // One more: the tree in use is no backup.
  await keepNewest(files, trees, inUse === null ? maxBackups : maxBackups + 1, [
    ...own,
    ...(inUse === null ? [] : [inUse]),
  ]);
}

async function keepNewest(files: Files, folder: string, count: number, needed: readonly string[]): Promise<void> {
  const all = (await files.list(folder)).filter(isStamped).map((name) => `${folder}/${name}`);
  for (const path of all.slice(0, -count)) if (!needed.includes(path)) await files.remove(path);
}
