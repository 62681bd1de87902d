import { createHash } from 'node:crypto';
import { QxError } from '../../errors.ts';
import type { Process, SlotDevice } from '../../ports.ts';
import { readMedium } from './direct.ts';
import type { Run } from './ext4.ts';

/** What the medium itself has, past the page cache. */
export interface DiskReader {
  /** SHA-256 (hex) of the runs in their order, behind `prefix`; a hole counts as zeros. */
  hash(device: SlotDevice, runs: readonly Run[], options?: HashOptions): Promise<string>;
  /** Shorter than `lengthBytes` where the device is. */
  start(device: SlotDevice, lengthBytes: number): Promise<Uint8Array>;
}

export interface HashOptions {
  readonly prefix?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

const FLUSH_TIMEOUT_MS = 60_000;
const ZEROS_BYTES = 1 << 16;
const NOTHING = new Uint8Array();

export function diskReader(process: Process): DiskReader {
  const flushCache = async (device: SlotDevice): Promise<void> => {
    // A plain file is a stand-in: what its own file system's cache says has to do.
    if (device.kind === 'file') return;
    const { exitCode } = await process.run(['blockdev', '--flushbufs', device.path], { timeoutMs: FLUSH_TIMEOUT_MS });
    if (exitCode !== 0) throw new QxError('IO', `${device.path} cannot be read past the page cache`);
  };
  return {
    hash: async (device, runs, { prefix = NOTHING, signal } = {}) => {
      const hash = createHash('sha256').update(prefix);
      for (const { at, lengthBytes } of runs) {
        const pieces = at === null ? zeros(lengthBytes) : readMedium(device, at, lengthBytes, flushCache, signal);
        for await (const piece of pieces) hash.update(piece);
      }
      return hash.digest('hex');
    },
    start: async (device, lengthBytes) => {
      const start = new Uint8Array(Math.min(lengthBytes, device.sizeBytes));
      let filled = 0;
      for await (const piece of readMedium(device, 0, start.length, flushCache)) {
        start.set(piece, filled);
        filled += piece.length;
      }
      return start;
    },
  };
}

function* zeros(lengthBytes: number): Generator<Uint8Array> {
  const block = new Uint8Array(ZEROS_BYTES);
  for (let left = lengthBytes; left > 0; left -= block.length) yield block.subarray(0, Math.min(left, block.length));
}
