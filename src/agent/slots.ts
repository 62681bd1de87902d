import { type BootState, nextBoot, type Slot } from '../core/boot.ts';
import { SLOTS } from '../format/grubenv.ts';
import { currentBoot } from './bootenv.ts';
import { saidOsVersion } from './facts.ts';
import type { Host } from './host.ts';
import { versionOn } from './slot/head.ts';
import { loadJournal, loadMemory } from './store.ts';

/** Everything that is known of the two slots. Looks and changes nothing. */

export interface SlotInfo {
  readonly slot: Slot;
  readonly running: boolean;
  /** GRUB takes this one next. */
  readonly next: boolean;
  /** Null: the boot environment cannot be read. */
  readonly ok: boolean | null;
  readonly tries: number | null;
  readonly onTrial: boolean;
  readonly version: string | null;
  readonly writtenAt: string | null;
  readonly device: string | null;
  readonly sizeBytes: number | null;
}

interface BootsNow {
  readonly running: Slot | null;
  /** The boot environment; null where it cannot be read. */
  readonly state: BootState | null;
  /** The slot that GRUB takes; null when nobody knows. */
  readonly next: Slot | null;
}

export async function bootsNow(host: Pick<Host, 'boot'>): Promise<BootsNow> {
  const [{ slot: running }, state] = await Promise.all([host.boot.booted(), currentBoot(host)]);
  return { running, state, next: state === null ? null : nextBoot(state) };
}

export async function slotTable(host: Host): Promise<readonly SlotInfo[]> {
  const [{ running, state, next }, memory, journal] = await Promise.all([
    bootsNow(host),
    loadMemory(host),
    loadJournal(host),
  ]);
  return Promise.all(
    SLOTS.map(async (slot) => {
      const device = await host.disk.device(slot);
      const content = memory.slots[slot];
      const before = slot === journal?.previous_slot ? journal.previous_version : null;
      const lies = await versionOn(host, slot, content, before);
      // The image that says nothing of itself leaves that to whoever laid the host.
      const said = slot === running && content?.own_version !== null ? await saidOsVersion(host.files) : null;
      const version = said ?? lies;
      return {
        slot,
        running: slot === running,
        next: slot === next,
        ok: state?.[slot].ok ?? null,
        tries: state?.[slot].tries ?? null,
        onTrial: state !== null && state.trial !== '' && state.order[0] === slot,
        version,
        writtenAt: content?.written_at ?? null,
        device: device?.path ?? null,
        sizeBytes: device?.sizeBytes ?? null,
      };
    }),
  );
}
