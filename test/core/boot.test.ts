import { describe, expect, test } from 'vitest';
import {
  armTrial,
  type BootState,
  decideBoot,
  freshState,
  HEALTHY_WORLD,
  invalidate,
  markFailed,
  markGood,
  nextBoot,
  other,
  previous,
  rollBack,
  SLOT_TABLE,
  type SlotPhase,
  slotPhase,
} from '../../src/core/boot.ts';
import { SLOTS } from '../../src/format/grubenv.ts';
import { allBootStates, TRIAL } from '../support/boot-states.ts';

const both: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };

describe('which slot boots next', () => {
  test('defect 26: a trial has three boots, then the old slot is back and says whose trial failed', () => {
    let state: BootState = armTrial(both, 'B', TRIAL);
    for (const triesLeft of [2, 1, 0]) {
      const boot = decideBoot(state);
      expect(boot).toMatchObject({ slot: 'B', how: 'trial', trial: TRIAL });
      state = boot.after as BootState;
      expect(state.B).toEqual({ ok: false, tries: triesLeft });
    }
    const back = decideBoot(state);
    expect(back).toMatchObject({ slot: 'A', how: 'ok', trial: '', failed: TRIAL });
    expect(back.after).toMatchObject({ order: ['A', 'B'], B: { ok: false, tries: 0 }, trial: '', failed: TRIAL });
  });

  test('a trial that was marked good stays', () => {
    const good = markGood(decideBoot(armTrial(both, 'B', TRIAL)).after as BootState, 'B');
    expect(decideBoot(good)).toEqual({ slot: 'B', how: 'ok', trial: '', failed: '', failedWhy: '', after: good });
  });

  test('a slot boots only if it is ok, or on trial with a try that was just saved', () => {
    for (const state of allBootStates())
      for (const canSave of [true, false]) {
        const boot = decideBoot(state, { ...HEALTHY_WORLD, canSave });
        if (boot.slot === null || boot.how === 'last-resort') continue;
        if (boot.how === 'ok') expect(state[boot.slot].ok).toBe(true);
        else expect([canSave, boot.after?.[boot.slot].tries]).toEqual([true, state[boot.slot].tries - 1]);
      }
  });

  test('while a readable slot is ok, no last resort is taken', () => {
    for (const state of allBootStates())
      if (state.A.ok || state.B.ok) expect(decideBoot(state).how).not.toBe('last-resort');
  });

  test('left alone, every state boots one and the same slot for ever after at most five boots', () => {
    for (const state of allBootStates()) {
      let now = state;
      for (let boots = 0; boots < 5; boots++) now = decideBoot(now).after ?? now;
      expect(decideBoot(now).after).toEqual(now);
    }
  });

  test('without any environment: slot A, or B where A cannot be read', () => {
    expect(decideBoot(null)).toMatchObject({ slot: 'A', how: 'last-resort', after: null });
    const world = { ...HEALTHY_WORLD, readable: { A: false, B: true } };
    expect(decideBoot(null, world)).toMatchObject({ slot: 'B', how: 'last-resort' });
  });
});

describe('the named transitions, from every state', () => {
  test.each(SLOTS)('an invalidated slot %s never boots while the other one is ok', (target) => {
    for (const state of allBootStates()) {
      const after = invalidate(state, target);
      expect(after[target]).toEqual({ ok: false, tries: 0 });
      expect(after[other(target)]).toEqual(state[other(target)]);
      if (after[other(target)].ok) expect(nextBoot(after)).toBe(other(target));
    }
  });

  test.each(SLOTS)(
    'an armed slot %s boots next, forgets an earlier failure, and leaves the other one alone',
    (target) => {
      for (const state of allBootStates()) {
        const after = armTrial(state, target, TRIAL);
        expect(decideBoot(after)).toMatchObject({ slot: target, trial: TRIAL });
        expect(after).toMatchObject({ failed: '', [other(target)]: state[other(target)] });
      }
    },
  );

  test.each(SLOTS)('a good slot %s boots next, and nothing is on trial', (slot) => {
    for (const state of allBootStates()) {
      const after = markGood(state, slot);
      expect(decideBoot(after)).toEqual({ slot, how: 'ok', trial: '', failed: '', failedWhy: '', after });
    }
  });

  test('giving up a trial is what GRUB does when the tries are used up', () => {
    for (const state of allBootStates()) {
      const [first] = state.order;
      if (state[first].ok || state[first].tries > 0 || state.trial === '') continue;
      expect(markFailed(state)).toEqual(decideBoot(state).after);
    }
  });

  test('giving up with nothing on trial does not take the good slot away', () => {
    expect(markFailed(both)).toBe(both);
    expect(markFailed(both, 'B', TRIAL)).toMatchObject({
      order: ['A', 'B'],
      A: { ok: true },
      B: { ok: false },
      failed: TRIAL,
    });
  });

  test('a rollback goes to the other slot while it is ok, and can be taken back', () => {
    expect(previous(both)).toBe('B');
    const back = rollBack(both) as BootState;
    expect(nextBoot(back)).toBe('B');
    expect(rollBack(back)).toEqual(both);
    expect(rollBack(freshState('A'))).toBeNull();
  });

  test('a slot moves between its phases as the table says', () => {
    const moves: Record<string, (state: BootState) => BootState> = {
      invalidate: (state) => invalidate(state, 'B'),
      armTrial: (state) => armTrial(state, 'B', TRIAL),
      markGood: (state) => markGood(state, 'B'),
      markFailed: (state) => markFailed(state, 'B', TRIAL),
    };
    const starts: Record<SlotPhase, BootState> = {
      empty: invalidate(both, 'B'),
      trial: armTrial(both, 'B', TRIAL),
      good: both,
    };
    for (const [phase, row] of Object.entries(SLOT_TABLE)) {
      expect(slotPhase(starts[phase as SlotPhase], 'B')).toBe(phase);
      for (const [event, to] of Object.entries(row)) {
        const after = moves[event]?.(starts[phase as SlotPhase]);
        expect(after && slotPhase(after, 'B'), `${phase} ${event}`).toBe(to);
      }
    }
  });
});
