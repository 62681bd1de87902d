import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Qemu, startQemu } from '../../scripts/support/vm/qemu.ts';

/** Starts of a machine that hangs where nothing of ours runs: only GRUB was there, and says which slot it started. */

export interface Place {
  readonly disk: string;
  /** More arguments for QEMU. */
  readonly more: readonly string[];
  /** The folder for its consoles. */
  readonly logs: string;
}

/**
 * Until an operator takes the power away: `quietMs` after the console said `last`.
 * @throws Error when the machine went down by itself, or got any further
 */
export const untilPowerCut = (place: Place, last: RegExp, quietMs: number): Promise<string> =>
  withMachine(place, async (qemu) => {
    if ((await qemu.untilConsole(last, KERNEL_MS)) === null) throw new Error('it went down before it hung');
    const before = ownWords(qemu);
    if ((await Promise.race([qemu.ended, sleep(quietMs, 'on', { ref: false })])) !== 'on') {
      throw new Error('it does not hang: it went down by itself');
    }
    if (ownWords(qemu) !== before) throw new Error(`it does not hang: ${ownWords(qemu).slice(before.length)}`);
  });

/** Until something resets it. */
export const untilReset = (place: Place, withinMs: number): Promise<string> =>
  withMachine(place, async ({ ended }) => {
    const late = sleep(withinMs, 'late', { ref: false });
    if ((await Promise.race([ended, late])) === 'late') throw new Error(`nothing reset it in ${withinMs} ms`);
  });

async function withMachine({ disk, more, logs }: Place, watch: (qemu: Qemu) => Promise<void>): Promise<string> {
  const logFile = join(logs, `start-${Date.now()}.log`);
  const qemu = await startQemu({ disk, more, logFile });
  try {
    await qemu.untilConsole(/starting slot/, KERNEL_MS);
    await watch(qemu);
    return [...qemu.console().matchAll(/starting slot ([AB])/g)].at(-1)?.[1] ?? '';
  } finally {
    await qemu.kill();
  }
}

/** A kernel whose process 1 hangs goes on finding entropy and clocks, and says so. */
const ownWords = (qemu: Qemu): string =>
  qemu
    .console()
    .replace(/^\[ *[0-9.]+\] .*$/gm, '')
    .trim();

const KERNEL_MS = 120_000;
