import type { MachineDisk, Partition } from '../../../scripts/support/machine-disk.ts';
import type { BlockLog, Entry } from './block-log.ts';
import type { CrashState } from './crash-states.ts';
import type { Epoch } from './recording.ts';

/** An agent that does things in the wrong order: the campaign has to find that out. */

export interface Tampering {
  tamper(log: BlockLog): BlockLog;
  /** The moments at which it shows. */
  aim(epoch: Epoch, state: CrashState): boolean;
}

const SECTORS_PER_MIB = 2048;

/**
 * The slot's head, and what arms it, before the rest of the slot: as if nobody waited for the disk. Both are needed for a
 * brick: a slot without its head is not read by GRUB whatever the environment says, and one that is not armed is not chosen.
 */
export function armedTooEarly({ B, boot }: MachineDisk['partitions']): Tampering {
  const isRest = (entry: Entry): boolean => isIn(entry, B) && !isIn(entry, { ...B, sizeMib: 1 });
  return {
    // GRUB refuses a slot whose tables, kernel or initramfs it cannot read; one of the many other writes is what it cannot miss.
    aim: ({ writes }, { kind }) => kind === 'without' && writes.some(isRest),
    tamper: (log) => {
      const first = log.entries.findIndex(isRest);
      const last = log.entries.findLastIndex(isRest);
      if (first < 0) return log;
      const after = log.entries.slice(last + 1);
      const early = after.filter((entry) => isIn(entry, B) || isIn(entry, boot));
      const entries: readonly Entry[] = [
        ...log.entries.slice(0, first),
        ...early,
        { kind: 'flush' },
        ...log.entries.slice(first, last + 1),
        ...after.filter((entry) => !early.includes(entry)),
      ];
      return { ...log, entries, [Symbol.asyncDispose]: () => log[Symbol.asyncDispose]() };
    },
  };
}

const isIn = (entry: Entry, { startMib, sizeMib }: Partition): boolean =>
  entry.kind === 'write' &&
  entry.sector >= startMib * SECTORS_PER_MIB &&
  entry.sector < (startMib + sizeMib) * SECTORS_PER_MIB;
