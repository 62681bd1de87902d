import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFailed } from 'vitest';

const given = new Map<string, number>();

/** Where the consoles of a machine are kept, a folder for each of the running test; they stay there, and a test that fails says where. */
export async function logFolder(): Promise<string> {
  const name = (expect.getState().currentTestName ?? 'no test').split(' > ').at(-1) ?? '';
  const count = (given.get(name) ?? 0) + 1;
  given.set(name, count);
  const suffix = count === 1 ? '' : `-${count}`;
  const folder = join('dist/vm-logs', name.replace(/[^a-z0-9]+/gi, '-').slice(0, 80) + suffix);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  onTestFailed(() => void process.stderr.write(`the consoles of "${name}" are in ${folder}\n`));
  return folder;
}
