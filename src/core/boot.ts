import type { FailedWhy } from '../format/cmdline.ts';
import { type BootState, type Slot, type SlotState, sealOf } from '../format/grubenv.ts';

export type { BootState, Slot } from '../format/grubenv.ts';

/**
 * Which slot boots, and every change that we make to that. Pure values; `agent/bootenv.ts` puts them on disk.
 *
 * `decideBoot` says what grub.cfg does. The two are compared over all states by running the real GRUB.
 */

const TRIES = 3;

const OUT: SlotState = { ok: false, tries: 0 };

export const other = (slot: Slot): Slot => (slot === 'A' ? 'B' : 'A');

export const sameBoot = (a: BootState, b: BootState): boolean => sealOf(a) === sealOf(b);

/** The life of one slot, as the transitions below move it. While it is on trial, each boot takes a try away first. */
export const SLOT_TABLE = {
  empty: { armTrial: 'trial' },
  trial: { markGood: 'good', markFailed: 'empty', invalidate: 'empty' },
  good: { invalidate: 'empty' },
} as const satisfies Record<string, Record<string, string>>;
export type SlotPhase = keyof typeof SLOT_TABLE;

export const slotPhase = (state: BootState, slot: Slot): SlotPhase =>
  state[slot].ok ? 'good' : state.order[0] === slot && state.trial !== '' ? 'trial' : 'empty';

/** A host whose other slot holds nothing that we know of. */
export const freshState = (slot: Slot): BootState =>
  markGood({ order: [slot, other(slot)], A: OUT, B: OUT, trial: '', failed: '' }, slot);

/** Before the first byte of a slot is overwritten: from here on nothing boots it. */
export const invalidate = (state: BootState, target: Slot): BootState => ({
  ...state,
  order: [other(target), target],
  [target]: OUT,
  trial: '',
});

/** The target boots next, and at most `tries` times unless it is marked good. */
export const armTrial = (state: BootState, target: Slot, trial: string, tries: number = TRIES): BootState => ({
  ...state,
  order: [target, other(target)],
  [target]: { ok: false, tries },
  trial,
  failed: '',
});

/** `failed` is forgotten: a slot that was marked good by hand must not read as rolled back at the next start. */
export const markGood = (state: BootState, slot: Slot): BootState => ({
  ...state,
  order: [slot, other(slot)],
  [slot]: { ok: true, tries: 0 },
  trial: '',
  failed: '',
});

/**
 * The trial is given up; the other slot is first again. grub.cfg does the same when the tries are used up. A state in which
 * nothing is on trial stays as it is: the first slot in order would be the good one.
 */
export const markFailed = (state: BootState, slot: Slot = state.order[0], trial: string = state.trial): BootState =>
  trial === '' ? state : { ...state, order: [other(slot), slot], [slot]: OUT, trial: '', failed: trial };

/** The slot that a manual rollback goes to; null while the other slot holds nothing bootable. */
export const previous = (state: BootState): Slot | null => (state[state.order[1]].ok ? state.order[1] : null);

/** Both slots stay ok: the way back is open in both directions. Null when there is nothing to go back to. */
export const rollBack = (state: BootState): BootState | null => {
  const target = previous(state);
  return target === null ? null : { ...state, order: [target, other(target)], trial: '' };
};

/** What the machine allows at this boot. */
export interface BootWorld {
  /** Kernel and initramfs can be read from the slot. */
  readonly readable: Readonly<Record<Slot, boolean>>;
  /** GRUB can write the copy of the environment that it read. */
  readonly canSave: boolean;
}

export interface BootDecision {
  /** Null when there is nothing left to boot: GRUB says so and starts over. */
  readonly slot: Slot | null;
  readonly how: 'ok' | 'trial' | 'last-resort' | 'nothing';
  /** What the kernel is told: the trial that this boot is, or the trial that was given up on the way here. */
  readonly trial: string;
  readonly failed: string;
  readonly failedWhy: FailedWhy;
  /** The environment afterwards; null when there is none. */
  readonly after: BootState | null;
}

export const HEALTHY_WORLD: BootWorld = { readable: { A: true, B: true }, canSave: true };

/** What GRUB will do, with its counting; `state` is null when both copies are invalid. */
export function decideBoot(state: BootState | null, world: BootWorld = HEALTHY_WORLD): BootDecision {
  if (state === null) return lastResort(null, ['A', 'B'], world, NOTHING_FAILED);
  const [first, second] = state.order;
  if (state[first].ok && world.readable[first])
    return { slot: first, how: 'ok', trial: '', ...NOTHING_FAILED, after: state };
  if (!isOnTrial(state)) return fallBack(state, second, [first, second], world, NOTHING_FAILED);

  const counted = { ...state, [first]: { ok: false, tries: state[first].tries - 1 } };
  const hasTry = state[first].tries > 0;
  // A try that could not be recorded would be tried for ever: such a slot is not even a last resort.
  if (hasTry && !world.canSave)
    return fallBack(state, second, [second], world, { failed: state.trial, failedWhy: 'unsaved' });
  if (hasTry && world.readable[first]) {
    return { slot: first, how: 'trial', trial: state.trial, ...NOTHING_FAILED, after: counted };
  }
  const after = world.canSave ? markFailed(state) : state;
  const failed = { failed: state.trial, failedWhy: hasTry ? 'unreadable' : '' } as const;
  return fallBack(after, second, [second, first], world, failed);
}

type Failed = Pick<BootDecision, 'failed' | 'failedWhy'>;

const NOTHING_FAILED: Failed = { failed: '', failedWhy: '' };

/** The slot that GRUB takes next when nothing else is wrong. */
export const nextBoot = (state: BootState): Slot | null => decideBoot(state).slot;

const isOnTrial = (state: BootState): boolean => !state[state.order[0]].ok && state.trial !== '';

function fallBack(
  after: BootState,
  second: Slot,
  lastOnes: readonly Slot[],
  world: BootWorld,
  failed: Failed,
): BootDecision {
  if (after[second].ok && world.readable[second]) return { slot: second, how: 'ok', trial: '', ...failed, after };
  return lastResort(after, lastOnes, world, failed);
}

/** Nothing is ok. A slot that was ok last is worth a loud attempt; a half-written one has no file system to boot from. */
function lastResort(after: BootState | null, slots: readonly Slot[], world: BootWorld, failed: Failed): BootDecision {
  const slot = slots.find((s) => world.readable[s]) ?? null;
  return { slot, how: slot === null ? 'nothing' : 'last-resort', trial: '', ...failed, after };
}
