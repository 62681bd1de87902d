import { QxError } from '../../errors.ts';

/** Which names an archive may carry, for the reader and for the packer alike. */

const MAX_PATH_BYTES = 1024;
const MAX_NAME_BYTES = 255;
const MAX_DEPTH = 32;
/** Control, format (right-to-left, zero-width) and unassigned characters, lone surrogates, and what a wrong decoding leaves. */
const UNREADABLE = /[\p{Cc}\p{Cf}\p{Cn}\p{Cs}\p{Co}\p{Zl}\p{Zp}\\\uFFFD]/u;

const unsafe = (path: string, reason: string): never => {
  throw new QxError('ARCHIVE_UNSAFE', `archive entry ${JSON.stringify(path.slice(0, 120))} ${reason}`);
};

/**
 * The path without the `./` in front and the `/` behind that tar writes; empty for the top folder itself. Everything else that
 * is not a plain relative path is refused and not repaired: a repaired path is one that nobody signed.
 */
export function plainPath(path: string): string {
  const plain = path === '.' || path === './' ? '' : path.replace(/^\.\//, '').replace(/\/$/, '');
  if (plain === '') return path === '' || path.startsWith('/') ? unsafe(path, 'has no relative name') : '';
  if (UNREADABLE.test(plain)) unsafe(path, 'has a character that is not allowed in a name');
  if (plain !== plain.normalize('NFC')) unsafe(path, 'is not in Unicode normal form C');
  if (Buffer.byteLength(plain) > MAX_PATH_BYTES) unsafe(path, `is longer than ${MAX_PATH_BYTES} bytes`);
  const names = plain.split('/');
  if (names.length > MAX_DEPTH) unsafe(path, `is more than ${MAX_DEPTH} levels deep`);
  for (const name of names) {
    if (name === '' || name === '.' || name === '..') unsafe(path, 'is not a plain relative path');
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) unsafe(path, `has a name longer than ${MAX_NAME_BYTES} bytes`);
  }
  return plain;
}

/**
 * What an archive has named so far. Two names that some file system, or some reader's eye, takes for one are refused: which of
 * them would win depends on where it is unpacked.
 */
export class SeenNames {
  private readonly exact = new Map<string, 'file' | 'directory' | 'implied'>();
  private readonly folded = new Map<string, string>();

  add(path: string, kind: 'file' | 'directory'): void {
    const names = path.split('/');
    for (let depth = 1; depth < names.length; depth++) this.note(names.slice(0, depth).join('/'), 'implied');
    this.note(path, kind);
  }

  private note(path: string, kind: 'file' | 'directory' | 'implied'): void {
    const before = this.exact.get(path);
    if (before !== undefined) {
      if (before === 'file' || kind === 'file') unsafe(path, 'appears twice');
      if (before === 'directory' && kind === 'directory') unsafe(path, 'appears twice');
      if (kind === 'directory') this.exact.set(path, kind);
      return;
    }
    const key = fold(path);
    const twin = this.folded.get(key);
    if (twin !== undefined) unsafe(path, `differs from ${JSON.stringify(twin)} only in case or in its Unicode form`);
    this.folded.set(key, path);
    this.exact.set(path, kind);
  }
}

/** Upper case first: it alone maps a sharp s to two letters. */
const fold = (path: string): string => path.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC');
