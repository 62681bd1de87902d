import { versionSaid } from '../../format/version.ts';
import type { Process, SlotDevice } from '../../ports.ts';

/** Which version a system that does not run says that it is. Asked by name, never a reason to fail: many say nothing. */

const TIMEOUT_MS = 60_000;

export async function versionInSquashfs(process: Process, path: string): Promise<string | null> {
  const read = async (file: string): Promise<string> =>
    said(process, ['unsquashfs', '-no-wildcards', '-cat', path, file]);
  const plain = await read('etc/quantix-version');
  return versionSaid(plain, plain === '' ? await read('etc/quantix-release') : '');
}

/** The slot of an older layout has it beside the image. */
export async function versionInExt4(process: Process, { kind, path }: SlotDevice): Promise<string | null> {
  // -D: past the page cache.
  const direct = kind === 'block' ? ['-D'] : [];
  return versionSaid(await said(process, ['debugfs', ...direct, '-R', 'cat /quantix/VERSION', path]), '');
}

async function said(process: Process, argv: readonly [string, ...string[]]): Promise<string> {
  try {
    const { exitCode, stdout } = await process.run(argv, { timeoutMs: TIMEOUT_MS });
    return exitCode === 0 ? stdout : '';
  } catch {
    return '';
  }
}
