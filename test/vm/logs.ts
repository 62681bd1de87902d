import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFailed } from 'vitest';

/** Where the consoles of the running test's machines are kept; they stay there, and a test that fails says where. */
export async function logFolder(): Promise<string> {
  const name = (expect.getState().currentTestName ?? 'no test').split(' > ').at(-1) ?? '';
  const folder = join('dist/vm-logs', name.replace(/[^a-z0-9]+/gi, '-').slice(0, 80));
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  onTestFailed(() => void process.stderr.write(`the consoles of "${name}" are in ${folder}\n`));
  return folder;
}
