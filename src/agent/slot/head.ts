import type { Slot } from '../../core/boot.ts';
import type { Memory } from '../../format/journal.ts';
import { LAYOUT_BYTES, layoutOf } from '../../format/slot-layout.ts';
import type { Disk } from '../../ports.ts';

/** What lies on a slot, at a glance: the first block of an image has its sizes, its tables and when it was made. */

interface Machine {
  readonly disk: Disk;
}

export const hashHead = ({ disk }: Machine, slot: Slot): Promise<string> => disk.hashRange(slot, 0, LAYOUT_BYTES);

/**
 * The version on a slot as the medium has it; null where there is none. `noted`: what was written to it last; `before`: what
 * its installer had put there, which keeps no note.
 */
export async function versionOn(
  { disk }: Machine,
  slot: Slot,
  noted: Memory['slots'][Slot],
  before: string | null,
): Promise<string | null> {
  try {
    if (layoutOf(await disk.readStart(slot, LAYOUT_BYTES)) === null) return null;
    if (noted?.head_sha256 !== undefined && noted.head_sha256 === (await hashHead({ disk }, slot)))
      return noted.version;
    const own = await disk.versionOnSlot(slot);
    // One that was noted and is another now cannot be what was noted.
    return own ?? (noted?.head_sha256 === undefined ? (noted?.version ?? before) : null);
  } catch {
    return null;
  }
}
