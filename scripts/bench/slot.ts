import { rm, truncate, writeFile } from 'node:fs/promises';
import { execa } from 'execa';

/** A device as large as asked for, over a file of its own. */
export interface BenchSlot extends AsyncDisposable {
  readonly path: string;
  readonly kind: 'loop device' | 'plain file (not root)';
}

export async function benchSlot(file: string, sizeBytes: number): Promise<BenchSlot> {
  await writeFile(file, '');
  await truncate(file, sizeBytes);
  if (process.getuid?.() !== 0) {
    return { path: file, kind: 'plain file (not root)', [Symbol.asyncDispose]: () => rm(file) };
  }
  const { stdout: path } = await execa('losetup', ['--find', '--show', file]);
  const detach = async (): Promise<void> => {
    await execa('losetup', ['--detach', path]);
    await rm(file);
  };
  return { path, kind: 'loop device', [Symbol.asyncDispose]: detach };
}
