import { markFailed, markGood, type Slot } from '../core/boot.ts';
import type { ProbeResult } from '../core/health.ts';
import { type Refusal, refusal } from '../core/plan.ts';
import type { Code } from '../errors.ts';
import type { Journal } from '../format/journal.ts';
import { baselineOf } from './baseline.ts';
import { notedTrouble } from './boot-truth.ts';
import { changeBoot, currentBoot } from './bootenv.ts';
import { failureOfSelf } from './failed-self.ts';
import { CONFIRMED_PATH, type Host, PATHS, type Watch } from './host.ts';
import { finishGood } from './outcome.ts';
import { healthGate } from './probes.ts';
import { recover } from './recover.ts';
import { imageTrouble } from './running-image.ts';
import { advance, loadJournal, openJournal, saveJournal } from './store.ts';

/**
 * After a reboot: which slot is this, is it well? Then the slot is marked good, or the old one boots again. Run by the
 * image's own boot script, never by what was just installed in /data.
 */

export type Confirmation =
  | Refusal
  | {
      readonly kind: 'confirmed';
      readonly version: string;
      readonly slot: Slot;
      readonly warnings: readonly ProbeResult[];
    }
  | {
      /** The host reboots either way: into the same slot for another try, or into the other one. */
      readonly kind: 'trying_again' | 'rolling_back';
      readonly version: string;
      /** Which boot of the trial this was, of how many that the gate may turn down. */
      readonly attempt: number;
      readonly attempts: number;
      readonly failed: readonly ProbeResult[];
    };

export async function confirm(host: Host, watch: Watch = {}): Promise<Confirmation> {
  const unlock = await host.files.lock(PATHS.lock);
  if (unlock === null) return refusal('BUSY', 'an update is under way on this host', 'qx-update status');
  try {
    const before = await openJournal(host);
    const verdict = await recover(host);
    // GRUB counts on: nothing may call this boot confirmed where that would not stop it.
    const trouble = (await host.boot.booted()).trial === '' ? null : await notedTrouble(host);
    if (trouble !== null) throw trouble;
    const journal = await loadJournal(host);
    if (verdict === 'already-good' && before?.phase !== 'complete' && journal !== null)
      return await confirmed(host, journal, []);
    if (verdict !== 'trial' || journal === null) return refusal('NOTHING_TO_CONFIRM', 'this boot is not on trial');
    return await decide(host, await onTrial(host, journal), watch);
  } finally {
    await unlock();
  }
}

async function decide(host: Host, journal: Journal, watch: Watch): Promise<Confirmation> {
  const other = await imageTrouble(host, journal, watch.signal);
  if (other !== null)
    return giveUp(host, journal, [{ name: 'image', ok: false, fatal: true, detail: other.message }], other.code);
  const before = await baselineOf(host, journal.id);
  const health = await healthGate(host, before?.facts ?? null, watch.signal);
  if (health.verdict === 'unhealthy') return turnDown(host, journal, health.failed);
  // Then what answers so well is the agent from before.
  const failure = await failureOfSelf(host, journal);
  if (failure !== null) return giveUp(host, journal, [{ name: 'agent', ok: false, fatal: true, ...failure }]);
  // The environment first: it is what boots. The journal is finished from it, now or after a crash.
  await changeBoot(host, (state) => markGood(state, journal.target_slot as Slot));
  return confirmed(host, await finishGood(host, journal), health.warnings);
}

/** GRUB counts the boots, also those that never came as far as this. */
async function onTrial(host: Host, journal: Journal): Promise<Journal> {
  const tries = (await currentBoot(host))?.[journal.target_slot as Slot].tries ?? 0;
  const attempts = { boot_attempts: Math.max(1, journal.max_attempts - tries) };
  if (journal.phase === 'armed') return advance(host, journal, 'boot', attempts);
  return journal.boot_attempts === attempts.boot_attempts ? journal : saveJournal(host, { ...journal, ...attempts });
}

/** Nothing waits for the end of a boot that is no trial. */
export async function endDeadline({ files, boot }: Pick<Host, 'files' | 'boot'>): Promise<void> {
  const { trial } = await boot.booted();
  if (trial !== '') await files.writeAtomic(CONFIRMED_PATH, new TextEncoder().encode(`${trial}\n`), 0o644);
}

async function confirmed(host: Host, journal: Journal, warnings: readonly ProbeResult[]): Promise<Confirmation> {
  await endDeadline(host);
  return { kind: 'confirmed', version: journal.target_version, slot: journal.target_slot as Slot, warnings };
}

/** Not well in this boot: that may be the machine's doing, so the slot is given the tries that it has left. */
async function turnDown(host: Host, journal: Journal, failed: readonly ProbeResult[]): Promise<Confirmation> {
  const state = await currentBoot(host);
  // A slot that was picked by hand has no trial that GRUB would go on with.
  const tries = state?.trial === journal.id ? state[journal.target_slot as Slot].tries : 0;
  if (tries === 0 || journal.boot_attempts >= host.config.healthAttempts) return giveUp(host, journal, failed);
  return end(host, journal, 'trying_again', failed);
}

/** The old slot finishes this: there the components that came with the image are undone and the release is remembered. */
const giveUp = (host: Host, journal: Journal, failed: readonly ProbeResult[], code?: Code): Promise<Confirmation> =>
  end(host, journal, 'rolling_back', failed, code);

async function end(
  host: Host,
  journal: Journal,
  kind: 'trying_again' | 'rolling_back',
  failed: readonly ProbeResult[],
  code: Code = 'UNHEALTHY',
): Promise<Confirmation> {
  const detail = failed.map((p) => `${p.name}: ${p.detail}`).join('; ');
  await saveJournal(host, { ...journal, error: { code, detail } });
  if (kind === 'rolling_back')
    await changeBoot(host, (state) => markFailed(state, journal.target_slot as Slot, journal.id));
  const { id, target_version: version, target_slot: slot, boot_attempts: attempt } = journal;
  const attempts = Math.max(attempt, Math.min(host.config.healthAttempts, journal.max_attempts));
  const fields = { id, version, slot, attempt, attempts };
  await host.audit.record({ event: 'slot_unhealthy', code, detail, fields });
  host.log.warn('slot_unhealthy', { ...fields, detail });
  await host.boot.reboot();
  return { kind, version, attempt, attempts, failed };
}
