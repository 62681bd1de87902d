import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { join } from 'node:path';

/** What a host in a folder holds, to be compared. */

/** What a reboot forgets; and what every refusal may add to: the memory of what was seen, and the record that it was refused. */
const UNCOUNTED = ['run', 'quantix/limiquantix/state.json', 'quantix/limiquantix/audit'];

/** Every name, mode and byte of the host, except what is left out. At once: thousands of these are made, of small hosts. */
export function snapshot(root: string, leftOut: readonly string[] = UNCOUNTED): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  const walk = (path: string): void => {
    for (const name of readdirSync(join(root, path))) {
      const inner = path === '' ? name : `${path}/${name}`;
      if (leftOut.includes(inner)) continue;
      const info = lstatSync(join(root, inner));
      if (info.isDirectory()) walk(inner);
      found[inner] = `${info.mode.toString(8)} ${contentAt(join(root, inner), info)}`;
    }
  };
  walk('');
  return found;
}

function contentAt(path: string, info: Stats): string {
  if (info.isSymbolicLink()) return readlinkSync(path);
  if (!info.isFile()) return '';
  const hash = createHash('sha256');
  const file = openSync(path, 'r');
  try {
    for (let read = 1; read > 0; ) {
      read = readSync(file, PIECE, 0, PIECE.length, null);
      hash.update(PIECE.subarray(0, read));
    }
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}

/** One for all files: a new one each time would keep the garbage collector busier than the tests. */
const PIECE = Buffer.alloc(1 << 20);

/** Answers whether it was never asked about the same names, modes and bytes before: the same bytes have the same future. */
export function newStates(): (root: string, leftOut?: readonly string[]) => boolean {
  const seen = new Set<string>();
  return (root, leftOut = []) => {
    const state = createHash('sha256')
      .update(JSON.stringify(snapshot(root, leftOut)))
      .digest('hex');
    const isNew = !seen.has(state);
    seen.add(state);
    return isNew;
  };
}
