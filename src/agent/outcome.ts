import { type BootState, invalidate, previous, rollBack, type Slot } from '../core/boot.ts';
import { latestNowMs } from '../core/dates.ts';
import { isHostAtFault, withBad, withCommitted, withInterrupted } from '../core/memory.ts';
import type { Journal } from '../format/journal.ts';
import type { Outcome } from '../ports/offer.ts';
import { changeBoot } from './bootenv.ts';
import { putBack, settle } from './components.ts';
import { addToHistory } from './history.ts';
import { type Host, instant } from './host.ts';
import { advance, loadMemory, saveMemory } from './store.ts';

/** The ends that an update can come to. Each can be interrupted and run again. */

/** The boot environment already says ok: only the bookkeeping is left. */
export async function finishGood(host: Host, journal: Journal): Promise<Journal> {
  const trial = journal.phase === 'armed' ? await advance(host, journal, 'boot') : journal;
  await rememberGood(host, trial);
  const settled = await settle(host, trial);
  const timings = { ...trial.timings, ...rebootTime(host, trial) };
  const complete = await advance(host, settled, 'confirm', { pending: false, error: null, timings });
  await tell(host, complete, 'complete');
  return complete;
}

async function rememberGood(host: Host, journal: Journal): Promise<void> {
  const good = { ...journal, version: journal.target_version };
  const nowMs = latestNowMs(host.clock.nowMs(), host.buildDateMs);
  await saveMemory(host, withCommitted(await loadMemory(host), good, nowMs));
}

const DAY_MS = 86_400_000;

/** Left out where the clock was set in between. */
function rebootTime({ clock }: Host, { timings }: Journal): { reboot_ms?: number } {
  const tookMs = clock.nowMs() - Date.parse(timings?.rebooting_at ?? '');
  return tookMs >= 0 && tookMs < DAY_MS ? { reboot_ms: tookMs } : {};
}

/**
 * Nothing is left to do for an update without an image: its components are in place and their services stay up. From here on
 * it can only be finished, for settling it throws backups away.
 */
export const isInPlace = ({ phase, image, components }: Journal): boolean =>
  phase === 'applying' && image === null && components.every(({ state }) => state === 'done' || state === 'final');

/** There is no boot to wait for. A host that took only some of the components does not have this release. */
export async function finishComponents(host: Host, journal: Journal): Promise<Journal> {
  if (journal.is_whole) await rememberGood(host, journal);
  const complete = await advance(host, await settle(host, journal), 'finish');
  await tell(host, complete, 'complete');
  return complete;
}

/** From `rollingBack`: the previous slot boots, the components that came with the image go, the release is remembered. */
export async function finishRollBack(host: Host, journal: Journal): Promise<Journal> {
  if (journal.image !== null) await preferPrevious(host, journal);
  const undone = await putBack(host, journal);
  await rememberFailure(host, journal, journal.error ?? { code: 'ROLLED_BACK', detail: 'rolled back' }, true);
  const rolledBack = await advance(host, undone, 'undone', { pending: false });
  await tell(host, rolledBack, 'rolled_back');
  return rolledBack;
}

/** Of the release, so that it is not taken again by itself: for good where it `isBad`, for a while where its host was at fault. */
export async function rememberFailure(
  host: Host,
  { id, target_version: version, release_digest }: Journal,
  { code, detail: reason }: NonNullable<Journal['error']>,
  isBad: boolean,
): Promise<void> {
  const entry = { version, release_digest, at: instant(host.clock), reason, code };
  const memory = await loadMemory(host);
  if (isHostAtFault(code)) await saveMemory(host, withInterrupted(memory, { ...entry, id }));
  else if (isBad) await saveMemory(host, withBad(memory, entry));
}

/** After a failed trial GRUB has done this already. One that is not over ends here; once it was good, both slots stay ok. */
const preferPrevious = (host: Host, { id, target_slot }: Journal): Promise<BootState> =>
  changeBoot(host, (state) => {
    if (state.trial === id) return invalidate(state, target_slot as Slot);
    return state.order[0] === target_slot && previous(state) !== null ? (rollBack(state) ?? state) : state;
  });

/** Takes back an update that waits for its reboot. */
export async function withdraw(host: Host, journal: Journal, error: NonNullable<Journal['error']>): Promise<Journal> {
  const undoing = await advance(host, journal, 'undo', { pending: false, error });
  await disarm(host, undoing);
  return undoComponentsOf(host, undoing);
}

/** Only this update's own trial: the environment may already speak of another. */
export const disarm = (host: Host, { id, target_slot }: Journal): Promise<BootState> =>
  changeBoot(host, (state) => (state.trial === id ? invalidate(state, target_slot as Slot) : state));

/** From `undoing` to `failed`. */
export const undoComponentsOf = async (host: Host, journal: Journal): Promise<Journal> =>
  advance(host, await putBack(host, journal), 'undone');

/** Whoever is told is never a reason to fail: the update is over, whatever the other end makes of it. */
export async function tell(host: Host, journal: Journal, result: Outcome['result']): Promise<void> {
  const { id, product, channel, target_version: version, error } = journal;
  const outcome = { id, release: { product, channel, version }, result, at: instant(host.clock), ...(error ?? {}) };
  host.log.info('update_finished', outcome);
  const fields = { id, version, result };
  await host.audit.record({ event: 'update_finished', ...(result === 'complete' ? {} : (error ?? {})), fields });
  await told(host, 'history', () => addToHistory(host, journal, outcome));
  await told(host, 'report', () => host.report.outcome(outcome));
}

async function told({ log }: Host, whom: 'history' | 'report', tellThem: () => Promise<void>): Promise<void> {
  try {
    await tellThem();
  } catch (cause) {
    log.warn(`${whom}_failed`, { detail: String(cause) });
  }
}
