import type { BootState, Slot } from '../format/grubenv.ts';
import { armTrial, freshState, other } from './boot.ts';

/**
 * What the agent must conclude after any start: one cell for every journal phase, environment and booted slot.
 *
 * The environment is the only truth about what boots; the journal only says what we had in mind. So no cell ever makes the
 * environment follow the journal, except by arming a slot that was verified and never tried.
 */

export const VERDICTS = {
  nothing: 'no slot work is pending',
  'slot-untouched': 'stopped before the first byte was written: drop the update, the slot is what it was',
  'slot-unfinished': 'the slot holds half an image: drop the update, the slot stays not ok',
  'arm-again': 'the slot is verified but GRUB does not know: save phase armed, then arm the environment',
  'waiting-for-reboot': 'armed; the next reboot is the trial',
  trial: 'this boot is the trial: run the health gate, then mark good or roll back',
  'already-good': 'the slot was marked good: finish the journal',
  'rolled-back': 'the trial was given up: undo its components, find out why and remember it, finish the journal',
  foreign: 'GRUB is trying a slot for an update that this journal does not know: touch nothing, tell the operator',
  'not-our-boot': 'the kernel command line names no slot: change nothing',
  'env-lost': 'both copies are invalid: write them anew for the slot that runs, then look again',
} as const;
export type Verdict = keyof typeof VERDICTS;

/** `written`: verified, not yet armed. `armed` is saved before the environment is armed, so it may not be armed yet. */
export const BOOT_PHASES = ['none', 'writing', 'written', 'armed'] as const;
export type BootPhase = (typeof BOOT_PHASES)[number];

/** Whose trial the environment speaks of, seen from the journal. */
export const TRIALS = ['none', 'ours', 'foreign'] as const;
/** The target slot in the environment; `failed` when our trial was given up, whatever else it says. */
export const TARGETS = ['ok', 'trying', 'out', 'failed'] as const;

export type EnvKind = 'lost' | `${(typeof TRIALS)[number]} ${(typeof TARGETS)[number]}`;
type Columns = readonly [target: Verdict, other: Verdict, unknown: Verdict];
type Rows = Record<EnvKind, Columns>;

const all = <V extends Verdict>(verdict: V) => [verdict, verdict, verdict] as const;

const FOREIGN = {
  lost: ['env-lost', 'env-lost', 'not-our-boot'],
  'foreign ok': ['foreign', 'foreign', 'not-our-boot'],
  'foreign trying': ['foreign', 'foreign', 'not-our-boot'],
  'foreign out': ['foreign', 'foreign', 'not-our-boot'],
  'foreign failed': ['foreign', 'foreign', 'not-our-boot'],
} as const;

// Both copies say "not ok" before the first byte is written, so a target that is still ok was never touched.
const WRITING = {
  ...FOREIGN,
  'none ok': ['slot-untouched', 'slot-untouched', 'not-our-boot'],
  'none trying': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
  'none out': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
  'none failed': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
  // Armed before it was verified: no code does that, so nothing about the slot is believed.
  'ours ok': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
  'ours trying': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
  'ours out': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
  'ours failed': ['slot-unfinished', 'slot-unfinished', 'not-our-boot'],
} as const;

// From here on the slot is verified. A journal that lags behind the environment (a lost write) changes nothing about that.
const VERIFIED = {
  ...FOREIGN,
  // Only markGood makes the target ok once it was written, and it clears the trial in the same write.
  'none ok': ['already-good', 'already-good', 'not-our-boot'],
  // On the target without a trial: picked by hand in the menu. It is verified and it runs, so it may prove itself.
  'none trying': ['trial', 'arm-again', 'not-our-boot'],
  'none out': ['trial', 'arm-again', 'not-our-boot'],
  'none failed': ['rolled-back', 'rolled-back', 'not-our-boot'],
  'ours ok': ['already-good', 'already-good', 'not-our-boot'],
  'ours trying': ['trial', 'waiting-for-reboot', 'not-our-boot'],
  // The last try is this boot, or it was used up and GRUB could not save that.
  'ours out': ['trial', 'rolled-back', 'not-our-boot'],
  'ours failed': ['rolled-back', 'rolled-back', 'not-our-boot'],
} as const;

export const BOOT_TABLE = {
  none: {
    ...FOREIGN,
    'none ok': all('nothing'),
    'none trying': all('nothing'),
    'none out': all('nothing'),
    'none failed': all('nothing'),
    'ours ok': all('nothing'),
    'ours trying': all('nothing'),
    'ours out': all('nothing'),
    'ours failed': all('nothing'),
  },
  writing: WRITING,
  written: VERIFIED,
  armed: VERIFIED,
} as const satisfies Record<BootPhase, Rows>;

/** The journal's side; `target` and `trial` are ignored while no slot work is pending. */
export interface PendingSlot {
  readonly phase: BootPhase;
  readonly target: Slot;
  readonly trial: string;
}

/** What the kernel command line says. `failed` is a trial that GRUB gave up on the way here, even if it could not save that. */
export interface BootedSlot {
  readonly slot: Slot | null;
  readonly failed: string;
}

export function bootVerdict(journal: PendingSlot, env: BootState | null, booted: BootedSlot): Verdict {
  const columns: Columns = BOOT_TABLE[journal.phase][envKind(journal, env, booted.failed)];
  if (booted.slot === null) return columns[2];
  return booted.slot === journal.target ? columns[0] : columns[1];
}

function envKind(journal: PendingSlot, env: BootState | null, gaveUp: string): EnvKind {
  if (env === null) return 'lost';
  const ours = journal.phase === 'none' ? '' : journal.trial;
  const isOurs = (id: string): boolean => id !== '' && id === ours;
  const trial = env.trial === '' ? 'none' : isOurs(env.trial) ? 'ours' : 'foreign';
  if (isOurs(env.failed) || isOurs(gaveUp)) return `${trial} failed`;
  const target = env[journal.target];
  return `${trial} ${target.ok ? 'ok' : target.tries > 0 ? 'trying' : 'out'}`;
}

/**
 * What to write when both copies are lost. A slot on trial stays on trial: losing the environment must not be a way around
 * the health gate. The other slot counts as ok only where the journal says that it ran before.
 */
export function restored(journal: PendingSlot, running: Slot): BootState {
  const isVerified = journal.phase === 'written' || journal.phase === 'armed';
  if (!isVerified || running !== journal.target) return freshState(running);
  return armTrial(freshState(other(running)), running, journal.trial);
}
