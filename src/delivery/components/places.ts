import { posix } from 'node:path';
import { installPath } from '../../core/components.ts';
import type { ComponentEntry } from '../../format/journal.ts';
import type { Files } from '../../ports.ts';

/**
 * Where the parts of a component lie. Whatever is renamed into place is prepared in the same folder, hence on the same file
 * system; names that begin with a dot are of no interest to whoever lists that folder.
 */
export interface Places {
  readonly path: string;
  readonly parent: string;
  /** The archive is unpacked here. */
  readonly fresh: string;
  /** A backup on its way back. */
  readonly restoring: string;
  /** All trees of a component that is a directory; its install path is a symlink to one of them. */
  readonly trees: string;
}

export function placesOf(entry: Pick<ComponentEntry, 'install_path'>): Places {
  const path = installPath(entry);
  const [parent, name] = [posix.dirname(path), posix.basename(path)];
  return {
    path,
    parent,
    fresh: `${parent}/.${name}.new`,
    restoring: `${parent}/.${name}.restore`,
    trees: `${parent}/.${name}.trees`,
  };
}

const STAMPED = /^([0-9]{8}T[0-9]{6}Z)-/;
export const isStamped = (name: string): boolean => STAMPED.test(name);

/**
 * A folder name that sorts after all that are there, so that the last is the newest: also after the clock was set back, and for
 * the second in one second.
 */
export function stampedName(existing: readonly string[], nowMs: number, version: string | null): string {
  const newest = existing.filter(isStamped).sort().at(-1);
  const afterMs = newest === undefined ? 0 : parseStamp(newest) + 1000;
  return `${stampOf(Math.max(nowMs, afterMs))}-${version ?? '0.0.0'}`;
}

const stampOf = (ms: number): string => new Date(ms).toISOString().replace(/[-:]|\.[0-9]+/g, '');

function parseStamp(name: string): number {
  const ms = Date.parse(name.replace(/^(....)(..)(..T..)(..)(..Z).*$/, '$1-$2-$3:$4:$5'));
  return Number.isNaN(ms) ? 0 : ms;
}

/** Of a file, in a folder of its own below the backups; any other backup is a tree, and stays where it was. */
export const isFileBackup = (backup: string): boolean => isStamped(posix.basename(posix.dirname(backup)));

/** Relative, so that the link still points at its tree when the disk is looked at from another root. */
export const linkTarget = (path: string, tree: string): string => {
  const parent = `${posix.dirname(path)}/`;
  return tree.startsWith(parent) ? tree.slice(parent.length) : tree;
};

/** The tree that a symlink at `path` points at; null when there is no symlink. */
export async function treeAt(files: Files, path: string): Promise<string | null> {
  const info = await files.info(path);
  const target = info?.kind === 'symlink' ? await files.readLink(path) : null;
  return target === null ? null : posix.resolve(posix.dirname(path), target);
}
