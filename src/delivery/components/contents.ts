import { createHash } from 'node:crypto';
import { QxError } from '../../errors.ts';
import type { Files } from '../../ports.ts';
import { placesOf, treeAt } from './places.ts';

/**
 * What a component is on the disk, as one hash. It is noted of what a signed archive was unpacked to, so that an installed
 * component can be held against it later. Versions that an undo may bring back keep their notes.
 */
export interface Contents {
  readonly version: string;
  readonly sha256: string;
  /** Where it is installed. */
  readonly path: string;
}

const KEPT = 8;
const MAX_BYTES = 64 << 10;
const LINE = /^(\S+) ([0-9a-f]{64}) (\/.+)$/;
const pathOf = (directory: string, name: string): string => `${directory}/.${name}.contents`;

export async function noteContents(files: Files, directory: string, name: string, contents: Contents): Promise<void> {
  const others = (await notesOf(files, directory, name)).filter(({ version }) => version !== contents.version);
  await files.makeDirectory(directory);
  await write(files, pathOf(directory, name), [...others, contents].slice(-KEPT));
}

/** Of a version that was taken back; does nothing when there is no note. */
export async function forgetContents(files: Files, directory: string, name: string, version: string): Promise<void> {
  const notes = await notesOf(files, directory, name);
  const others = notes.filter((noted) => noted.version !== version);
  if (others.length < notes.length) await write(files, pathOf(directory, name), others);
}

function write(files: Files, path: string, notes: readonly Contents[]): Promise<void> {
  if (notes.length === 0) return files.remove(path);
  const lines = notes.map(({ version, sha256, path: installed }) => `${version} ${sha256} ${installed}\n`);
  return files.writeAtomic(path, new TextEncoder().encode(lines.join('')), 0o600);
}

/** Null when nothing, or nothing that can be read, was noted of this version. */
export async function notedContents(
  files: Files,
  directory: string,
  name: string,
  version: string,
): Promise<Contents | null> {
  return (await notesOf(files, directory, name)).find((noted) => noted.version === version) ?? null;
}

async function notesOf(files: Files, directory: string, name: string): Promise<Contents[]> {
  const bytes = await files.read(pathOf(directory, name), MAX_BYTES).catch(() => null);
  const lines = bytes === null ? [] : new TextDecoder().decode(bytes).split('\n');
  return lines.flatMap((line) => {
    const [, version, sha256, path] = LINE.exec(line) ?? [];
    return version === undefined || sha256 === undefined || path === undefined ? [] : [{ version, sha256, path }];
  });
}

/**
 * SHA-256 over kind, mode, name and content of everything at `path`; null when it is gone. Of symlinks only the one that leads
 * to a tree of this very component is followed: what another leads to, somebody else may change at any time.
 */
export async function hashContents(files: Files, path: string, signal?: AbortSignal): Promise<string | null> {
  const hash = createHash('sha256');
  const visit = async (at: string, name: string): Promise<void> => {
    if (signal?.aborted) throw new QxError('CANCELLED', `reading ${path} was cancelled`);
    const info = await files.info(at);
    const mode = info?.kind === 'symlink' ? '' : info?.mode.toString(8);
    hash.update(`${JSON.stringify([info?.kind, mode, name, await contentOf(files, at, info?.kind, signal)])}\n`);
    if (info?.kind !== 'directory') return;
    for (const child of await files.list(at)) await visit(`${at}/${child}`, `${name}/${child}`);
  };
  const tree = await treeAt(files, path);
  const top = tree?.startsWith(`${placesOf({ install_path: path }).trees}/`) ? tree : path;
  if ((await files.info(top)) === null) return null;
  await visit(top, '');
  return hash.digest('hex');
}

async function contentOf(files: Files, at: string, kind: string | undefined, signal?: AbortSignal): Promise<string> {
  if (kind === 'file') return (await files.hash(at, signal)).sha256;
  return kind === 'symlink' ? ((await files.readLink(at)) ?? '') : '';
}
