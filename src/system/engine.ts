import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * An agent waits for months on a machine whose memory is sold: it is to be small before it is fast. What costs time in it
 * (hashes, files, TLS) is not JavaScript, so the compilers that make JavaScript fast only cost memory, theirs and their
 * code's. Each of these flags is read when the next decision of its kind is taken, so it also counts for an engine that runs.
 */
const FLAGS = ['--no-opt', '--no-maglev', '--no-sparkplug', '--expose-gc'];

/**
 * What is read and handed on is garbage at once. Where the space for new objects stays small it is found while it is still in
 * the processor's cache and is used again: less memory, and a third less time in a process that only moves bytes.
 */
export const collectEarly = (): void => setFlagsFromString('--semi-space-growth-factor=1');

/** The engine collects when it needs room. Whoever does little never needs it, and keeps what was thrown away long ago. */
const LOOK_EVERY_MS = 60_000;
/** Until its first full collection the engine takes all growth for its start, and lets the heap become several times as large. */
const FIRST_LOOK_MS = 3_000;
const WORTHWHILE_BYTES = 2 << 20;

/** Ends with the process and keeps none alive. */
export function preferMemory(lookEveryMs = LOOK_EVERY_MS): void {
  for (const flag of FLAGS) setFlagsFromString(flag);
  collectEarly();
  const collect: () => void = runInNewContext('gc');
  const collected = { atBytes: 0 };
  const look = (): void => {
    // What was ever allocated, not what is used: what is thrown away later than it was last found alive makes nothing grow.
    const { total_allocated_bytes: allocatedBytes } = getHeapStatistics();
    if (allocatedBytes - collected.atBytes < WORTHWHILE_BYTES) return;
    collect();
    collected.atBytes = allocatedBytes;
  };
  setTimeout(look, FIRST_LOOK_MS).unref();
  setInterval(look, lookEveryMs).unref();
}
