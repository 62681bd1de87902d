import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Inputs that `npm run fuzz` found worth keeping: a folder for each target, files named by their hash. */

const folderOf = (target: string): string => join(import.meta.dirname, 'corpus', target);

export async function loadCorpus(target: string): Promise<Uint8Array[]> {
  const folder = folderOf(target);
  const names = await readdir(folder).catch(() => []);
  return Promise.all(names.sort().map((name) => readFile(join(folder, name))));
}

export async function saveCorpus(target: string, inputs: readonly Uint8Array[]): Promise<void> {
  await rm(folderOf(target), { recursive: true, force: true });
  await mkdir(folderOf(target), { recursive: true });
  for (const input of inputs) await writeFile(join(folderOf(target), nameOf(input)), input);
}

export const nameOf = (input: Uint8Array): string => createHash('sha256').update(input).digest('hex').slice(0, 12);
