import { COPIED_IDENTITY_PATH, HOST_IDENTITY_PATH } from '../../format/host-identity.ts';
import { HOST_MAINTENANCE_PATH } from '../../format/host-maintenance.ts';
import type { Files } from '../../ports.ts';

/**
 * What came along with a disk and belongs to the machine that it was copied from: its id, the place that it may hold at this
 * moment, and what it still has to tell. It is put aside, so that the copy says nothing of it, until somebody has decided.
 */

const ASIDE: readonly (readonly [from: string, to: string])[] = [
  [HOST_MAINTENANCE_PATH, '/quantix/limiquantix/maintenance-copied.json'],
  ['/quantix/limiquantix/reports', '/quantix/limiquantix/reports-copied'],
  // Last: once it is gone, the host has an id of its own.
  [HOST_IDENTITY_PATH, COPIED_IDENTITY_PATH],
];

export async function putAside(files: Files): Promise<void> {
  for (const [from, to] of ASIDE) await moved(files, from, to);
}

/** The id is not among it: whoever asks for it back says which one it is. */
export async function takeUpAgain(files: Files): Promise<void> {
  for (const [from, to] of ASIDE.slice(0, -1)) {
    if ((await files.info(from)) === null) await moved(files, to, from);
  }
}

/** An interrupted move is gone on with: what was moved is not there any more. */
async function moved(files: Files, from: string, to: string): Promise<void> {
  if ((await files.info(from)) === null) return;
  await files.remove(to);
  await files.rename(from, to);
}

/** Somebody has decided. */
export async function forgetCopied(files: Files): Promise<void> {
  for (const [, to] of ASIDE) if ((await files.info(to)) !== null) await files.remove(to);
}
