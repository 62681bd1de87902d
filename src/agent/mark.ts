import { type BootState, invalidate, markFailed, markGood, other, type Slot } from '../core/boot.ts';
import { isRefusal, type Refusal, refusal } from '../core/plan.ts';
import type { Memory } from '../format/journal.ts';
import { bootTrouble, changeBoot, currentBoot } from './bootenv.ts';
import { endDeadline } from './confirm.ts';
import { type Host, PATHS } from './host.ts';
import { mountTrouble } from './mounts.ts';
import { recover } from './recover.ts';
import { contentTrouble, imageTrouble } from './running-image.ts';
import { loadJournal, loadMemory } from './store.ts';

/** The operator says by hand what a slot is worth, where the health gate cannot or must not: a rescue, so it can refuse. */

export type Mark = 'good' | 'bad';
export type MarkTarget = Slot | 'booted' | 'other';

export type MarkResult =
  | Refusal
  | {
      readonly kind: 'marked' | 'reboot_required';
      readonly slot: Slot;
      readonly mark: Mark;
      /** Which slot boots next. */
      readonly next: Slot;
    };

export async function markSlot(host: Host, mark: Mark, target: MarkTarget): Promise<MarkResult> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refusal('BUSY', 'an update is under way on this host', 'qx-update status');
  try {
    await recover(host);
    const { slot: booted } = await host.boot.booted();
    const slot = target === 'booted' ? booted : target === 'other' ? booted && other(booted) : target;
    if (slot === null) {
      return refusal('SLOT_NOT_FOUND', 'the kernel command line names no running slot', 'name it: A or B');
    }
    const missing = (await mountTrouble(host, ['/boot'])) ?? (await bootTrouble(host));
    if (missing !== null) throw missing;
    const state = await currentBoot(host);
    if (state === null)
      return refusal(
        'BOOT_ENV_INVALID',
        'neither copy of the boot environment is valid',
        'boot through the grub.cfg of Quantix-OS: once it is known which slot runs, they are written anew',
      );
    const change = mark === 'good' ? good(state, slot, booted, await loadMemory(host)) : bad(state, slot);
    if (isRefusal(change)) return change;
    const spoilt = mark === 'good' ? await slotTrouble(host, slot, booted) : null;
    if (spoilt !== null) return spoilt;
    const after = await changeBoot(host, () => change);
    if (mark === 'good' && slot === booted) await endDeadline(host);
    await host.audit.record({ event: 'slot_marked', fields: { slot, mark, next: after.order[0] } });
    host.log.info('slot_marked', { slot, mark, next: after.order[0] });
    const leaves = mark === 'bad' && slot === booted;
    // A trial that is given up while it runs is finished by the old slot, where its components can be undone.
    if (!leaves) await recover(host);
    return { kind: leaves ? 'reboot_required' : 'marked', slot, mark, next: after.order[0] };
  } finally {
    await unlock();
  }
}

/** A person may vouch for a system that runs badly, but not for one that is not there. */
async function slotTrouble(host: Host, slot: Slot, booted: Slot | null): Promise<Refusal | null> {
  const journal = await loadJournal(host);
  const isPending = slot === booted && journal?.pending === true && journal.target_slot === slot;
  const trouble = isPending ? await imageTrouble(host, journal) : await contentTrouble(host, slot);
  return trouble && refusal(trouble.code, trouble.message, `qx-update mark bad ${slot}, then install a release`);
}

function good(state: BootState, slot: Slot, booted: Slot | null, memory: Memory): BootState | Refusal {
  if (slot === booted) return markGood(state, slot);
  if (state.trial !== '' && state.order[0] === slot) {
    return refusal('ON_TRIAL', `slot ${slot} has not booted yet: its trial decides`, 'reboot into it');
  }
  if (memory.slots[slot] === null) {
    return refusal('SLOT_NOT_FOUND', `nothing that was verified is known to be on slot ${slot}`, 'install a release');
  }
  // It may boot again; which slot boots first is a question of its own, which rollback answers.
  return { ...state, [slot]: { ok: true, tries: 0 } };
}

function bad(state: BootState, slot: Slot): BootState | Refusal {
  if (!state[other(slot)].ok) {
    return refusal('SLOT_RUNNING', `slot ${slot} is the only one that can boot`, 'install a release on the other slot');
  }
  const isOnTrial = state.trial !== '' && state.order[0] === slot;
  return isOnTrial ? markFailed(state, slot) : invalidate(state, slot);
}
