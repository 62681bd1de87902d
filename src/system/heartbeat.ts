import { closeSync, openSync, rmSync, writeSync } from 'node:fs';

const EVERY_MS = 2000;

/**
 * Shows `node-watch` that the event loop turns and that the agent `isWell`: a number in a file in memory, changed again and
 * again. Written in this thread, since a disk that hangs must not make a living agent look dead. A file that cannot be written
 * goes, because one that stands still says that the agent hangs.
 */
export function startHeartbeat(path: string, isWell: () => boolean): () => void {
  const file = openQuietly(path);
  if (file === null) return () => undefined;
  const count = { beats: 0 };
  const beat = (): void => {
    if (!isWell()) return;
    try {
      writeSync(file, `${++count.beats}\n`, 0);
    } catch {
      rmSync(path, { force: true });
    }
  };
  beat();
  const timer = setInterval(beat, EVERY_MS);
  return () => {
    clearInterval(timer);
    closeSync(file);
  };
}

/** Null where there is no such folder: not on a host, or not started by node-run. */
function openQuietly(path: string): number | null {
  try {
    return openSync(path, 'w', 0o600);
  } catch {
    return null;
  }
}
