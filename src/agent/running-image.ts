import { canBeImage } from '../core/running-image.ts';
import { QxError } from '../errors.ts';
import type { Slot } from '../format/grubenv.ts';
import type { Journal } from '../format/journal.ts';
import { runsFromAnother } from './disks.ts';
import { saidOsVersion } from './facts.ts';
import type { Host } from './host.ts';
import { loadMemory } from './store.ts';
import { verifySlot } from './verify.ts';

/**
 * Before a slot is marked good: that what runs is what was written. A name may lead to another disk than GRUB's, and a medium
 * may give back something else than it did when it was written.
 */

/** Why this system is not the image of the update; null when it is, as far as anybody can tell. */
export async function imageTrouble(host: Host, journal: Journal, signal?: AbortSignal): Promise<QxError | null> {
  const slot = journal.target_slot as Slot;
  const [running, memory] = await Promise.all([saidOsVersion(host.files), loadMemory(host)]);
  const { target_version: target, previous_version: previous } = journal;
  const written = memory.slots[slot]?.own_version ?? null;
  if (!canBeImage({ running, written, target, previous })) {
    return mismatch(
      `slot ${slot} was written with version ${written ?? target}, and the system that runs says that it is ${running}`,
    );
  }
  const elsewhere = await runsFromAnother(host, slot);
  if (elsewhere !== null) return mismatch(elsewhere);
  return slotTrouble(host, slot, signal);
}

/** Why a slot is not what was written to it; null when it is, or when nothing is known of that. */
export async function slotTrouble(host: Host, slot: Slot, signal?: AbortSignal): Promise<QxError | null> {
  const { result, detail } = await verifySlot(host, slot, signal);
  return result === 'differs' ? new QxError('READBACK_MISMATCH', `slot ${slot} ${detail}`, { next: NEXT }) : null;
}

const NEXT = 'look for a second disk with the same labels: lsblk -o NAME,PARTLABEL,PARTUUID';

const mismatch = (detail: string): QxError => new QxError('IMAGE_MISMATCH', detail, { next: NEXT });
