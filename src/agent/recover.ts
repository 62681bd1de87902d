import { armTrial, type Slot } from '../core/boot.ts';
import { bootVerdict, type PendingSlot, type Verdict } from '../core/boot-verdict.ts';
import { strangeTrial } from '../core/status.ts';
import { isSettled } from '../core/update.ts';
import type { Journal, Phase } from '../format/journal.ts';
import type { Booted } from '../ports.ts';
import { noteTruth } from './boot-truth.ts';
import { changeBoot, currentBoot, settleBoot } from './bootenv.ts';
import { takeBackWithSelf } from './failed-self.ts';
import type { Host } from './host.ts';
import { mountTrouble } from './mounts.ts';
import {
  disarm,
  finishComponents,
  finishGood,
  finishRollBack,
  isInPlace,
  rememberFailure,
  tell,
  undoComponentsOf,
  withdraw,
} from './outcome.ts';
import { advance, loadMemory, openJournal, saveJournal } from './store.ts';
import { endOfTrial } from './trial-end.ts';

/**
 * After any stop, at any line: read what was intended, look at what the machine really is, and make it one of the two, the
 * old state or the new one. Running it twice is running it once.
 *
 * Called with the lock held: by the daemon when it starts, before every install, and by the health gate.
 */
export async function recover(host: Host): Promise<Verdict> {
  const lost = await mountTrouble(host, ['/quantix']);
  if (lost !== null) throw lost;
  const opened = await openJournal(host);
  const trouble = await noteTruth(host);
  const journal = await takeBackWithSelf(host, opened);
  const pending = pendingSlot(journal);
  const { state, booted } = await settleBoot(host, pending);
  const verdict = bootVerdict(pending, state, booted);
  const strange = verdict === 'foreign' ? strangeTrial(state, journal, booted.slot) : null;
  if (strange !== null) host.log.warn('boot_foreign_trial', { id: state?.trial, detail: strange });
  if (journal === null || isSettled(journal.phase)) return verdict;
  // What becomes of an image is read from the environment: from another one than GRUB's, nothing is concluded.
  if (trouble !== null && isOfBoot(journal)) throw trouble;
  await converge(host, journal, verdict, booted);
  return verdict;
}

const isOfBoot = ({ image, phase }: Journal): boolean => image !== null && phase !== 'fetching';

const SLOT_PHASES: Partial<Record<Phase, PendingSlot['phase']>> = {
  writing: 'writing',
  armed: 'armed',
  trial: 'armed',
};

/** The journal as the boot table sees it. */
function pendingSlot(journal: Journal | null): PendingSlot {
  const phase = journal === null ? undefined : SLOT_PHASES[journal.phase];
  if (journal === null || phase === undefined) return { phase: 'none', target: 'B', trial: '' };
  return { phase, target: journal.target_slot ?? 'B', trial: journal.id };
}

/** An armed update on its way: the reboot or the health gate comes next. */
const EXPECTED: ReadonlySet<Verdict> = new Set(['waiting-for-reboot', 'trial']);

async function converge(host: Host, journal: Journal, verdict: Verdict, booted: Booted): Promise<void> {
  if (verdict === 'waiting-for-reboot' && (await wasPassedOver(host, journal)))
    return passedOver(host, journal, booted);
  if (EXPECTED.has(verdict)) return;
  // Backups, and what they are put back in place of, lie there.
  const lost = journal.components.length === 0 ? null : await mountTrouble(host, ['/data']);
  if (lost !== null) throw lost;
  const error = { code: 'INTERRUPTED', detail: `stopped in phase ${journal.phase}` };
  host.log.warn('update_recovered', { id: journal.id, version: journal.target_version, verdict, ...error });
  switch (journal.phase) {
    case 'fetching':
    case 'writing':
      // The slot stays not ok, partial downloads stay for the next attempt; nothing else was touched.
      await tell(host, await advance(host, journal, 'fail', { error }), 'failed');
      return;
    case 'applying':
      if (isInPlace(journal) && !(await isBad(host, journal))) await finishComponents(host, journal);
      else await tell(host, await undoComponentsOf(host, await advance(host, journal, 'undo', { error })), 'failed');
      return;
    case 'undoing':
      await disarm(host, journal);
      await tell(host, await undoComponentsOf(host, journal), 'failed');
      return;
    case 'rollingBack':
      await finishRollBack(host, journal);
      return;
    default:
      await followBoot(host, journal, verdict, booted);
  }
}

/** Armed before this boot, and not tried in it: another boot would be no different, and each one costs the guests. */
async function wasPassedOver(host: Host, { phase, armed_in, target_slot, max_attempts }: Journal): Promise<boolean> {
  if (phase !== 'armed' || armed_in === undefined || armed_in === (await host.boot.bootId())) return false;
  return (await currentBoot(host))?.[target_slot as Slot].tries === max_attempts;
}

async function passedOver(host: Host, journal: Journal, { slot }: Booted): Promise<void> {
  const detail =
    `the host was restarted into slot ${slot} without a try of slot ${journal.target_slot}: ` +
    `it was picked by hand, or GRUB reads another boot environment than the one in /boot/grub`;
  const error = { code: 'TRIAL_PASSED_OVER', detail };
  host.log.warn('update_recovered', { id: journal.id, version: journal.target_version, ...error });
  await rememberFailure(host, journal, error, false);
  await tell(host, await withdraw(host, journal, error), 'failed');
}

/** Found out since: the agent that it brought did not start, for one. */
const isBad = async (host: Host, { release_digest }: Journal): Promise<boolean> =>
  (await loadMemory(host)).bad.some((bad) => bad.release_digest === release_digest);

/** An armed update: GRUB has the last word on what became of it. */
async function followBoot(host: Host, journal: Journal, verdict: Verdict, booted: Booted): Promise<void> {
  if (verdict === 'arm-again') {
    await saveJournal(host, { ...journal, armed_in: await host.boot.bootId() });
    await changeBoot(host, (state) => armTrial(state, journal.target_slot as Slot, journal.id));
  } else if (verdict === 'already-good') {
    await finishGood(host, journal);
  } else if (verdict === 'rolled-back') {
    const error = journal.error ?? (await endOfTrial(host, journal, booted));
    await finishRollBack(host, await advance(host, journal, 'rollBack', { pending: false, error }));
  }
}
