import { canBeImage, type ImageEvidence } from '../core/running-image.ts';
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
  const { target_version: target, previous_version: previous } = journal;
  const other = await versionTrouble(host, slot, { target, previous });
  if (other !== null) return other;
  const elsewhere = await runsFromAnother(host, slot);
  if (elsewhere !== null) return mismatch(elsewhere);
  return contentTrouble(host, slot, signal);
}

/** Why the system that runs is not the one that was written to its slot, by what both say of themselves. */
export async function versionTrouble(
  host: Pick<Host, 'files'>,
  slot: Slot,
  versions: Pick<ImageEvidence, 'target' | 'previous'>,
): Promise<QxError | null> {
  const [running, memory] = await Promise.all([saidOsVersion(host.files), loadMemory(host)]);
  const written = memory.slots[slot]?.own_version ?? null;
  if (canBeImage({ running, written, ...versions })) return null;
  return mismatch(
    `slot ${slot} was written with version ${written ?? versions.target}, and the system that runs says that it is ${running ?? 'of none'}`,
  );
}

/** Why a slot does not hold what was written to it; null when it does, or when nothing is known of that. */
export async function contentTrouble(host: Host, slot: Slot, signal?: AbortSignal): Promise<QxError | null> {
  const { result, detail } = await verifySlot(host, slot, signal);
  return result === 'differs' ? new QxError('READBACK_MISMATCH', `slot ${slot} ${detail}`, { next: NEXT }) : null;
}

const NEXT = 'look for a second disk with the same labels: lsblk -o NAME,PARTLABEL,PARTUUID';

const mismatch = (detail: string): QxError => new QxError('IMAGE_MISMATCH', detail, { next: NEXT });
