import { type Evidence, type TrialEnd, trialEnd } from '../core/trial-end.ts';
import type { Slot } from '../format/grubenv.ts';
import type { Journal } from '../format/journal.ts';
import { MAX_TRIES_BYTES, readTries, TRIES_PATH } from '../format/tries.ts';
import type { Booted } from '../ports.ts';
import type { Host } from './host.ts';
import { verifySlot } from './verify.ts';

/** Looks for what ended a trial that GRUB gave up: what GRUB said, what the boot scripts noted, what is still on the slot. */
export async function endOfTrial(host: Host, journal: Journal, booted: Booted): Promise<TrialEnd> {
  const slot = journal.target_slot as Slot;
  const why = booted.failed === journal.id ? booted.failedWhy : '';
  const bytes = await host.files.read(TRIES_PATH, MAX_TRIES_BYTES).catch(() => null);
  const tries = readTries(new TextDecoder().decode(bytes ?? new Uint8Array()), journal.id);
  const isExplained = why === 'unsaved' || tries.started > 0;
  return trialEnd({ slot, why, ...tries, isWhole: isExplained ? null : await isWhole(host, slot) });
}

async function isWhole(host: Host, slot: Slot): Promise<Evidence['isWhole']> {
  try {
    const { result } = await verifySlot(host, slot, undefined);
    return result === 'unknown' ? null : result === 'ok';
  } catch (error) {
    host.log.warn('slot_unreadable', { slot, detail: String(error) });
    return false;
  }
}
