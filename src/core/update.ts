import { QxError } from '../errors.ts';
import type { Phase } from '../format/journal.ts';

/**
 * The life of one update on a host. The journal stores the phase before the step that it names begins, so after a crash the
 * phase says what may be half done.
 *
 * `writing` is the inactive slot, `applying` the components, `armed` is saved before the boot environment is armed, `trial`
 * once the new slot has booted.
 */
export const UPDATE_TABLE = {
  idle: { start: 'fetching' },
  fetching: { writeSlot: 'writing', applyComponents: 'applying', fail: 'failed' },
  writing: { applyComponents: 'applying', arm: 'armed', fail: 'failed' },
  applying: { arm: 'armed', finish: 'complete', undo: 'undoing' },
  armed: { boot: 'trial', undo: 'undoing', rollBack: 'rollingBack' },
  trial: { confirm: 'complete', rollBack: 'rollingBack' },
  undoing: { undone: 'failed' },
  rollingBack: { undone: 'rolledBack' },
  complete: { start: 'fetching', rollBack: 'rollingBack' },
  failed: { start: 'fetching' },
  rolledBack: { start: 'fetching' },
} as const satisfies Record<Phase, Record<string, Phase>>;

type EventsOf<P extends Phase> = keyof (typeof UPDATE_TABLE)[P];
export type UpdateEvent = { [P in Phase]: EventsOf<P> }[Phase];

/** @throws QxError ILLEGAL_TRANSITION */
export function nextPhase(phase: Phase, event: UpdateEvent): Phase {
  const row: Partial<Record<UpdateEvent, Phase>> = UPDATE_TABLE[phase];
  const to = row[event];
  if (to === undefined) throw new QxError('ILLEGAL_TRANSITION', `an update that is ${phase} cannot ${event}`);
  return to;
}

const SETTLED: ReadonlySet<Phase> = new Set(['idle', 'complete', 'failed', 'rolledBack']);

/** Nothing of this update is half done: another one may start. */
export const isSettled = (phase: Phase): boolean => SETTLED.has(phase);
