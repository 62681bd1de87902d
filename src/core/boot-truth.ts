import type { KernelWords } from '../format/cmdline.ts';
import type { BootState } from '../format/grubenv.ts';
import type { Phase } from '../format/journal.ts';

/** The last update, as the journal has it. */
interface Last {
  readonly id: string;
  readonly phase: Phase;
  readonly target_version: string;
}

/**
 * What GRUB said of this boot, held against what this host believes, before anything was written in this boot. Whoever is
 * wrong, it is not GRUB: it says what it has just done. Null where they agree.
 */
export function contradiction(told: KernelWords, env: BootState | null, last: Last | null): string | null {
  if (told.slot === null || env === null) return null;
  if (told.trial !== '' && env.trial !== told.trial) {
    return `GRUB tries slot ${told.slot} for the update ${told.trial}, of which the environment in /boot/grub says nothing`;
  }
  if (last?.phase === 'complete' && [told.failed, env.failed].includes(last.id)) {
    return `GRUB has given up the update to ${last.target_version} (${last.id}), which this host holds for complete`;
  }
  return null;
}
