import { posix } from 'node:path';
import { QxError } from '../../errors.ts';
import type { ComponentEntry } from '../../format/journal.ts';
import type { ExtractedArchive, Files } from '../../ports.ts';
import { hashContents, noteContents } from './contents.ts';
import type { ComponentContext, Entries } from './context.ts';
import { linkTarget, placesOf, stampedName, treeAt } from './places.ts';
import { writeInstalled } from './versions.ts';

/** One component: unpacked beside what it replaces, then put in its place. */

const MAX_ENTRIES = 100_000;
/** For a manifest that does not say how large an archive unpacks. */
const MAX_UNPACKED_BYTES = 2 ** 32;
/** A component has no use for setuid. */
const PERMISSION_BITS = 0o777;

/** Touches nothing that is installed. The archive is hashed as it is unpacked: what was swapped in staging never gets here. */
export async function unpack(
  entry: ComponentEntry,
  entries: Entries,
  context: ComponentContext,
): Promise<ComponentEntry> {
  const { files, archive } = context;
  const { parent, fresh } = placesOf(entry);
  await files.makeDirectory(parent);
  // Left by an attempt that was cut off.
  await files.remove(fresh);
  const limits = { maxBytes: entry.unpacked_size_bytes ?? MAX_UNPACKED_BYTES, maxEntries: MAX_ENTRIES };
  const unpacked = await archive.extract(context.artifact(entry), fresh, limits, context.signal);
  const kind = kindOf(entry, unpacked);
  await checkTarget(entry, kind, files);
  if (kind === 'file') {
    await files.setMode(`${fresh}/${unpacked.entries[0]}`, Number.parseInt(entry.permissions, 8) & PERMISSION_BITS);
  }
  return entries.change(entry.name, { kind });
}

function kindOf({ name, kind }: ComponentEntry, { entries }: ExtractedArchive): 'file' | 'directory' {
  const isOneFile = entries.length === 1 && entries[0]?.endsWith('/') === false;
  if (kind !== 'file') return kind ?? (isOneFile ? 'file' : 'directory');
  if (isOneFile) return 'file';
  throw new QxError('ARCHIVE_UNSAFE', `component ${name} is one file, and its archive holds ${entries.length} entries`);
}

/**
 * What is there may be of the other kind, since a release may turn a folder into a file and back. A symlink of somebody else is
 * theirs, and so is what is neither.
 */
async function checkTarget(entry: ComponentEntry, kind: 'file' | 'directory', files: Files): Promise<void> {
  const { path, trees } = placesOf(entry);
  const there = await files.info(path);
  if (there === null || there.kind === 'file' || there.kind === 'directory') return;
  if (there.kind === 'symlink' && (kind === 'directory' || (await treeAt(files, path))?.startsWith(`${trees}/`)))
    return;
  throw new QxError('PATH_OCCUPIED', `component ${entry.name} is a ${kind}, and ${path} is a ${there.kind}`, {
    next: `look at it, move it away, and repeat this: mv ${path} ${path}.aside`,
  });
}

export async function swap(
  entry: ComponentEntry,
  entries: Entries,
  context: ComponentContext,
): Promise<ComponentEntry> {
  const { files, paths } = context;
  const { path } = placesOf(entry);
  const sha256 = await hashContents(files, await unpackedAt(entry, files), context.signal);
  const swapped = entry.kind === 'file' ? swapFile : swapTree;
  await swapped(entry, entries, context);
  if (sha256 !== null) await noteContents(files, paths.versions, entry.name, { version: entry.version, sha256, path });
  await writeInstalled(files, paths.versions, entry.name, entry.version);
  return entries.change(entry.name, { state: 'swapped' });
}

/** What takes the component's place: the folder that was unpacked, or the one file in it. */
async function unpackedAt(entry: ComponentEntry, files: Files): Promise<string> {
  const { fresh } = placesOf(entry);
  return entry.kind === 'file' ? `${fresh}/${(await files.list(fresh))[0]}` : fresh;
}

async function swapFile(entry: ComponentEntry, entries: Entries, context: ComponentContext): Promise<void> {
  const { files } = context;
  const { path, fresh } = placesOf(entry);
  const { backup, hash, makeRoom } = await backUp(entry, context);
  await entries.change(entry.name, { state: 'swapping', backup, ...hash });
  await makeRoom();
  await files.rename(await unpackedAt(entry, files), path);
  await files.remove(fresh);
}

interface BackUp {
  /** What the undo brings back: a file of its own, or the tree that stays where it is; null when there was nothing. */
  readonly backup: string | null;
  readonly hash: Pick<ComponentEntry, 'backup_sha256'>;
  /** Once the journal names the backup: a folder cannot be replaced by a rename. */
  readonly makeRoom: () => Promise<void>;
}

async function backUp(entry: ComponentEntry, context: ComponentContext): Promise<BackUp> {
  const { files, clock } = context;
  const { path, trees } = placesOf(entry);
  const kind = (await files.info(path))?.kind;
  if (kind !== 'directory') {
    const backup = kind === 'symlink' ? await treeAt(files, path) : await backUpFile(entry, context);
    return { backup, hash: await hashOf(backup, context), makeRoom: async () => undefined };
  }
  // A folder that came with the host becomes the first tree. From here until something has its name there is neither.
  await files.makeDirectory(trees);
  const backup = `${trees}/${stampedName(await files.list(trees), clock.nowMs(), entry.previous_version)}`;
  return { backup, hash: await hashOf(path, context), makeRoom: () => files.rename(path, backup) };
}

/** Complete and on disk before it has its name: node-run takes any folder of that form for a backup. */
async function backUpFile(entry: ComponentEntry, { files, clock, paths }: ComponentContext): Promise<string | null> {
  const { path } = placesOf(entry);
  if ((await files.info(path)) === null) return null;
  const folder = paths.backupsOf(entry.name);
  const unfinished = `${folder}/.unfinished`;
  const file = posix.basename(path);
  // Each by itself: a symlink above the last folder would be followed, and leave the backup with whoever planted it.
  for (const each of [posix.dirname(folder), folder]) await files.makeDirectory(each);
  await files.remove(unfinished);
  await files.makeDirectory(unfinished, 0o700);
  await files.duplicate(path, `${unfinished}/${file}`);
  const name = stampedName(await files.list(folder), clock.nowMs(), entry.previous_version);
  await files.rename(unfinished, `${folder}/${name}`);
  return `${folder}/${name}/${file}`;
}

async function swapTree(entry: ComponentEntry, entries: Entries, context: ComponentContext): Promise<void> {
  const { files, clock } = context;
  const { path, fresh, trees } = placesOf(entry);
  await files.makeDirectory(trees);
  const { backup, hash, makeRoom } = await backUp(entry, context);
  const names = [...(await files.list(trees)), ...(backup === null ? [] : [posix.basename(backup)])];
  const tree = `${trees}/${stampedName(names, clock.nowMs(), entry.version)}`;
  await entries.change(entry.name, { state: 'swapping', backup, ...hash, tree });
  await files.rename(fresh, tree);
  await makeRoom();
  await files.linkAtomic(linkTarget(path, tree), path);
}

async function hashOf(
  replaced: string | null,
  { files, signal }: ComponentContext,
): Promise<Pick<ComponentEntry, 'backup_sha256'>> {
  const backup_sha256 = replaced === null ? null : await hashContents(files, replaced, signal);
  return backup_sha256 === null ? {} : { backup_sha256 };
}
