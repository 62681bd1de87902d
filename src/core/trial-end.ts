import type { Code } from '../errors.ts';
import type { FailedWhy } from '../format/cmdline.ts';
import type { Tries } from '../format/tries.ts';
import type { Slot } from './boot.ts';

/**
 * Why a trial came to its end that no health gate has ended. A release is remembered as bad for what is in its bytes; what
 * its host did to it (power cuts, a disk that loses bytes or takes none) says nothing of it.
 */

export interface Evidence extends Tries {
  readonly slot: Slot;
  readonly why: FailedWhy;
  /** The slot still holds what was written to it; false also where it cannot be read. Null: nobody looked, or can tell. */
  readonly isWhole: boolean | null;
}

export interface TrialEnd {
  readonly code: Code;
  readonly detail: string;
}

export function trialEnd({ slot, why, isWhole, started, timedOutS }: Evidence): TrialEnd {
  if (why === 'unsaved') {
    return {
      code: 'BOOT_ENV_READ_ONLY',
      detail: `GRUB could not note a try of slot ${slot} on /boot, so it made none`,
    };
  }
  if (isWhole === false) {
    return {
      code: 'READBACK_MISMATCH',
      detail: `slot ${slot} does not read back as it was written: look at its disk with dmesg and smartctl`,
    };
  }
  if (why === 'unreadable') {
    const reason = 'they are not there, damaged, or made for another processor';
    return { code: 'IMAGE_UNBOOTABLE', detail: `GRUB could not start kernel and initramfs of slot ${slot}: ${reason}` };
  }
  if (timedOutS !== null) {
    const setting = 'deadline_s in /etc/conf.d/quantix-boot';
    return { code: 'UNHEALTHY', detail: `slot ${slot} was not confirmed within ${timedOutS} s (${setting})` };
  }
  if (started > 0) {
    const detail = `slot ${slot} started, and each time something ended it before the health gate had decided`;
    return { code: 'TRIAL_INTERRUPTED', detail };
  }
  return { code: 'UNHEALTHY', detail: `slot ${slot} came in none of its tries as far as the first boot script` };
}
