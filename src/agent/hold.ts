import { type Refusal, refusal } from '../core/plan.ts';
import type { Memory } from '../format/journal.ts';
import { type Host, instant, PATHS } from './host.ts';
import { loadMemory, saveMemory } from './store.ts';

/** The operator wants this host left alone: nothing is installed, and nothing reboots by itself, until the hold is lifted. */

export type Held = NonNullable<Memory['held']>;

export const loadHold = async (host: Pick<Host, 'files'>): Promise<Held | null> =>
  (await loadMemory(host)).held ?? null;

/** Null when updates are not on hold. */
export async function heldBack(host: Pick<Host, 'files'>): Promise<Refusal | null> {
  const held = await loadHold(host);
  return held && refusal('HELD', `updates are on hold since ${held.at}: ${held.reason}`, 'qx-update unhold');
}

/** `reason` null lifts the hold. Answers what is in force now. */
export async function setHold(
  host: Host,
  reason: string | null,
  actor: string,
): Promise<Refusal | { readonly held: Held | null }> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refusal('BUSY', 'an update is under way on this host', 'qx-update cancel, then repeat');
  try {
    const memory = await loadMemory(host);
    const held = reason === null ? null : { at: instant(host.clock), reason };
    await saveMemory(host, { ...memory, held });
    if (held !== null || (memory.held ?? null) !== null) {
      const event = held === null ? 'updates_released' : 'updates_held';
      await host.audit.record({ event, actor, ...(held === null ? {} : { detail: held.reason }) });
    }
    return { held };
  } finally {
    await unlock();
  }
}
