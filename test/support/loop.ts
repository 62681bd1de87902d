import { execFile } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';

const execute = promisify(execFile);

export const LOOP_REQUIREMENTS = { root: true, commands: ['losetup'] } as const;

/** A real block device over a new file; detached when the test is over, however it ends. */
export async function loopDevice(backing: string, sizeBytes: number, sectorBytes = 512): Promise<string> {
  await writeFile(backing, '');
  await truncate(backing, sizeBytes);
  const { stdout } = await execute('losetup', ['--find', '--show', '--sector-size', String(sectorBytes), backing]);
  const device = stdout.trim();
  onTestFinished(async () => void (await execute('losetup', ['--detach', device])));
  return device;
}

/** Mounted until the test is over. */
export async function mountReadOnly(device: string, at: string, type: string): Promise<void> {
  await execute('mount', ['-r', '-t', type, device, at]);
  onTestFinished(async () => void (await execute('umount', [at])));
}
