import { other, previous, type Slot } from '../core/boot.ts';
import { type Refusal, refusal } from '../core/plan.ts';
import { isSettled } from '../core/update.ts';
import { spoiltBackup } from '../delivery/components/restore.ts';
import type { ComponentEntry, Journal, Memory, Phase } from '../format/journal.ts';
import { isNewer } from '../format/version.ts';
import { bootTrouble, currentBoot } from './bootenv.ts';
import { type Host, PATHS } from './host.ts';
import { mountTrouble } from './mounts.ts';
import { finishRollBack } from './outcome.ts';
import { recover } from './recover.ts';
import { contentTrouble } from './running-image.ts';
import { installedSelf, restartPutBackAgent } from './self.ts';
import { advance, loadJournal, loadMemory } from './store.ts';

/**
 * The operator takes the last update back: its components return to what they were, and the previous slot boots next. What
 * is on that slot was verified when it was written, so only the signed floor is asked, neither sequence nor expiry.
 */

export type RollbackResult =
  | Refusal
  | { readonly kind: 'rolled_back' | 'reboot_required'; readonly from: string; readonly to: string };

export async function rollback(
  host: Host,
  reason: string,
  /** The agent's own executable was put back. */
  restartAgent: () => Promise<void> = () => restartPutBackAgent(host),
): Promise<RollbackResult> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refusal('BUSY', 'an update is under way on this host', 'qx-update status');
  const agent = { isPutBack: false };
  try {
    const before = await installedSelf(host);
    const result = await withLock(host, reason);
    agent.isPutBack = (await installedSelf(host)) !== before;
    return result;
  } finally {
    await unlock();
    // Only now: the first thing that a starting agent asks for is the lock.
    if (agent.isPutBack) await restartAgent();
  }
}

async function withLock(host: Host, reason: string): Promise<RollbackResult> {
  await recover(host);
  const journal = await loadJournal(host);
  if (journal === null || !WAYS_BACK.has(journal.phase)) return refusal('NOTHING_TO_ROLL_BACK', whyNot(journal));
  // What is not confirmed yet has closed no way back.
  const blocked = journal.phase === 'complete' ? await blockedByFloor(host, journal) : null;
  if (blocked !== null) return blocked;
  // An undo that nobody asked for puts back what it can; one that was asked for is all or nothing.
  const spoilt = await anySpoilt(host, journal);
  if (spoilt !== null) return spoilt;
  const needed = [...(journal.image === null ? [] : ['/boot']), ...(journal.components.length === 0 ? [] : ['/data'])];
  const trouble = (await mountTrouble(host, needed)) ?? (journal.image === null ? null : await bootTrouble(host));
  if (trouble !== null) throw trouble;
  const overwritten = await previousTrouble(host, journal);
  if (overwritten !== null) return overwritten;
  const error = { code: 'ROLLED_BACK', detail: reason };
  // Whoever had dismissed the update has not seen this end of it.
  const begun = { pending: false, dismissed: false, error };
  await finishRollBack(host, await advance(host, journal, 'rollBack', begun));
  const kind = (await runsImageOf(host, journal)) ? 'reboot_required' : 'rolled_back';
  return { kind, from: journal.target_version, to: journal.previous_version };
}

async function anySpoilt({ files }: Host, { components, previous_version }: Journal): Promise<Refusal | null> {
  for (const entry of components) {
    const spoilt = NOT_RESTORED.has(entry.state) ? null : await spoiltBackup(entry, files);
    if (spoilt === null) continue;
    return refusal(spoilt.code, spoilt.message, `qx-update apply --version ${previous_version} --allow-downgrade`);
  }
  return null;
}

/** The slot that would boot again was verified when it was written; somebody may have written to it since. */
async function previousTrouble(
  host: Host,
  { image, previous_slot, previous_version }: Journal,
): Promise<Refusal | null> {
  const trouble = image === null || previous_slot === null ? null : await contentTrouble(host, previous_slot);
  return (
    trouble && refusal(trouble.code, trouble.message, `qx-update apply --version ${previous_version} --allow-downgrade`)
  );
}

const NOT_RESTORED: ReadonlySet<ComponentEntry['state']> = new Set(['pending', 'undone', 'final']);

const WAYS_BACK: ReadonlySet<Phase> = new Set(['armed', 'trial', 'complete']);

function whyNot(journal: Journal | null): string {
  if (journal === null) return 'no update was installed on this host';
  const state = isSettled(journal.phase) ? 'is already undone' : `is ${journal.phase}`;
  return `the last update, to ${journal.target_version}, ${state}`;
}

/** Where its image never ran nothing has to boot: the running slot simply stays. */
const runsImageOf = async ({ boot }: Host, { image, target_slot }: Journal): Promise<boolean> =>
  image !== null && (await boot.booted()).slot === target_slot;

async function blockedByFloor(host: Host, journal: Journal): Promise<Refusal | null> {
  const memory = await loadMemory(host);
  const target = journal.image === null ? journal.previous_version : await previousVersion(host, journal, memory);
  if (target === null)
    return refusal(
      'NOTHING_TO_ROLL_BACK',
      'the other slot holds nothing that may boot',
      'qx-update slots; a release that is installed goes onto that slot',
    );
  if (memory.floor === null || !isNewer(memory.floor, target)) return null;
  return refusal(
    'BELOW_FLOOR',
    `release ${journal.target_version} forbids going back to anything older than ${memory.floor}; before it there was ${target}`,
    'qx-update check: only a newer release leads on from here',
  );
}

async function previousVersion(host: Host, journal: Journal, memory: Memory): Promise<string | null> {
  const state = await currentBoot(host);
  const back = state === null ? null : previous(state);
  if (back === null || back !== other(journal.target_slot as Slot)) return null;
  return memory.slots[back]?.version ?? journal.previous_version;
}
