import { isVersion } from '../../format/version.ts';
import type { Files } from '../../ports.ts';

const SUFFIX = '.version';
const MAX_BYTES = 256;

const pathOf = (directory: string, name: string): string => `${directory}/${name}${SUFFIX}`;

/** Component -> version, as far as the files name a version. */
export async function readInstalled(files: Files, directory: string): Promise<ReadonlyMap<string, string>> {
  const names = (await files.list(directory))
    .filter((file) => file.endsWith(SUFFIX) && !file.startsWith('.'))
    .map((file) => file.slice(0, -SUFFIX.length));
  const found = new Map<string, string>();
  for (const name of names) {
    const version = await readVersion(files, pathOf(directory, name));
    if (version !== null) found.set(name, version);
  }
  return found;
}

async function readVersion(files: Files, path: string): Promise<string | null> {
  // A damaged file says nothing: the component then counts as missing and is installed again.
  const bytes = await files.read(path, MAX_BYTES).catch(() => null);
  const text = bytes === null ? '' : new TextDecoder().decode(bytes).trim();
  return isVersion(text) ? text : null;
}

export async function writeInstalled(
  files: Files,
  directory: string,
  name: string,
  version: string | null,
): Promise<void> {
  if (version === null) return files.remove(pathOf(directory, name));
  await files.makeDirectory(directory);
  await files.writeAtomic(pathOf(directory, name), new TextEncoder().encode(`${version}\n`));
}
