import type { Files } from '../ports.ts';

/** The operator's own programs on this host, in folders such as `health.d`. */

/** A program under /quantix takes the place of the image's own of that name; one that cannot be run switches it off. */
const FOLDERS = ['/etc/limiquantix', '/quantix/limiquantix'] as const;

/** What an editor or a package manager leaves beside a program is none. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*(?:\.sh)?$/;

export interface HookProgram {
  readonly name: string;
  readonly path: string;
  /** `unsafe`: others than root may write to it. */
  readonly state: 'usable' | 'switched off' | 'unsafe';
}

/** In the order of their names. */
export async function hookPrograms(files: Files, folder: 'health.d' | 'drain.d'): Promise<readonly HookProgram[]> {
  const found = new Map<string, string>();
  for (const base of FOLDERS) {
    const place = `${base}/${folder}`;
    for (const name of await files.list(place)) if (NAME.test(name)) found.set(name, `${place}/${name}`);
  }
  const sorted = [...found].sort(([a], [b]) => (a < b ? -1 : 1));
  return Promise.all(sorted.map(async ([name, path]) => ({ name, path, state: await stateOf(files, path) })));
}

async function stateOf(files: Files, path: string): Promise<HookProgram['state']> {
  const info = await files.info(path);
  if (info?.kind !== 'file' || (info.mode & 0o111) === 0) return 'switched off';
  return (info.mode & 0o022) === 0 ? 'usable' : 'unsafe';
}

/** The lines that it printed, without those that are empty. */
export const linesOf = (text: string): readonly string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');

/** Of one that failed, in a few words. */
export const lastWords = (stdout: string, stderr: string): string =>
  [...linesOf(stdout), ...linesOf(stderr)].slice(-3).join('; ').slice(0, 500) || 'it said nothing';
