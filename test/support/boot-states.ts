import { type BootState, other } from '../../src/core/boot.ts';
import { SLOTS } from '../../src/format/grubenv.ts';

export const TRIAL = 'trial0001';
export const EARLIER = 'earlier01';

/** Every state that a valid environment can hold, with one trial id standing for all of them. */
export function allBootStates(): BootState[] {
  const slots = [true, false].flatMap((ok) => [0, 1, 2, 3].map((tries) => ({ ok, tries })));
  const states: BootState[] = [];
  for (const first of SLOTS)
    for (const A of slots)
      for (const B of slots)
        for (const trial of ['', TRIAL])
          for (const failed of ['', EARLIER]) states.push({ order: [first, other(first)], A, B, trial, failed });
  return states;
}
