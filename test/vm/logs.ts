import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFailed, onTestFinished } from 'vitest';
import { howToStart } from '../../scripts/support/vm/qemu.ts';

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

/** When the running test fails, the disk of its machine stays beside the consoles, and it says how to start it. */
export function keepDisk(disk: string, folder: string, more: readonly string[]): void {
  // What a test made is gone before those are called that wait for its failure.
  onTestFinished(async ({ task }) => {
    // One that was well, among many, may be gone already.
    if (task.result?.state !== 'fail' || !existsSync(disk)) return;
    const kept = join(folder, 'disk.img');
    await execa('cp', ['--sparse=always', disk, kept]);
    process.stderr.write(`start the disk of "${task.name}" with\n  ${howToStart(kept, more)}\n`);
  });
}
