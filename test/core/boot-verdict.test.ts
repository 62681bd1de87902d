import { describe, expect, test } from 'vitest';
import {
  armTrial,
  type BootState,
  decideBoot,
  freshState,
  invalidate,
  markFailed,
  markGood,
} from '../../src/core/boot.ts';
import {
  BOOT_PHASES,
  BOOT_TABLE,
  bootVerdict,
  type PendingSlot,
  restored,
  VERDICTS,
  type Verdict,
} from '../../src/core/boot-verdict.ts';
import { allBootStates, EARLIER, TRIAL } from '../support/boot-states.ts';

const before: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };
const journal = (phase: PendingSlot['phase']): PendingSlot => ({ phase, target: 'B', trial: TRIAL });
const on = (slot: 'A' | 'B' | null, failed = '') => ({ slot, failed });

const invalidated = invalidate(before, 'B');
const armed = armTrial(invalidated, 'B', TRIAL);
const booted = decideBoot(armed).after as BootState;

describe('what the agent concludes after a start', () => {
  test.each<[string, PendingSlot['phase'], BootState | null, 'A' | 'B' | null, Verdict]>([
    ['nothing was under way', 'none', before, 'A', 'nothing'],
    ['stopped before the slot was invalidated', 'writing', before, 'A', 'slot-untouched'],
    ['stopped while the slot was written', 'writing', invalidated, 'A', 'slot-unfinished'],
    ['stopped between verifying and the journal', 'written', invalidated, 'A', 'arm-again'],
    ['stopped between the journal and the environment', 'armed', invalidated, 'A', 'arm-again'],
    ['armed, the agent restarted', 'armed', armed, 'A', 'waiting-for-reboot'],
    ['the trial boot', 'armed', booted, 'B', 'trial'],
    ['the third and last trial boot', 'armed', { ...booted, B: { ok: false, tries: 0 } }, 'B', 'trial'],
    ['stopped between mark good and the journal', 'armed', markGood(booted, 'B'), 'B', 'already-good'],
    ['GRUB gave the trial up', 'armed', markFailed(booted), 'A', 'rolled-back'],
    [
      'the tries were used up and GRUB could not save it',
      'armed',
      { ...booted, B: { ok: false, tries: 0 } },
      'A',
      'rolled-back',
    ],
    [
      'an earlier trial failed, this one is not armed yet',
      'armed',
      { ...invalidated, failed: EARLIER },
      'A',
      'arm-again',
    ],
    ['the journal was lost with a trial armed', 'none', armed, 'B', 'foreign'],
    ['the journal is of another update', 'armed', armTrial(before, 'B', EARLIER), 'B', 'foreign'],
    ['both copies are invalid', 'armed', null, 'A', 'env-lost'],
    ['a live image', 'armed', armed, null, 'not-our-boot'],
    ['picked by hand before it was armed', 'armed', invalidated, 'B', 'trial'],
  ])('%s', (_, phase, env, slot, verdict) => {
    expect(bootVerdict(journal(phase), env, on(slot))).toBe(verdict);
  });

  test('a trial that GRUB gave up but could not save is known from the kernel command line', () => {
    expect(bootVerdict(journal('armed'), armed, on('A', TRIAL))).toBe('rolled-back');
    expect(bootVerdict(journal('armed'), armed, on('A', EARLIER))).toBe('waiting-for-reboot');
  });

  test('every phase with every environment on every slot has a verdict, and every verdict is given', () => {
    const given = new Set<Verdict>();
    for (const phase of BOOT_PHASES)
      for (const state of [null, ...allBootStates()])
        for (const slot of ['A', 'B', null] as const)
          for (const failed of ['', TRIAL, EARLIER]) given.add(bootVerdict(journal(phase), state, on(slot, failed)));
    expect([...given].sort()).toEqual(Object.keys(VERDICTS).sort());
  });

  test('a slot that was never verified is never armed, tried or called good', () => {
    const wrong: Verdict[] = ['arm-again', 'trial', 'already-good', 'waiting-for-reboot', 'rolled-back'];
    for (const phase of ['none', 'writing'] as const)
      for (const columns of Object.values(BOOT_TABLE[phase]))
        for (const verdict of columns) expect(wrong).not.toContain(verdict);
  });

  test('a boot that is not ours changes nothing', () => {
    for (const rows of Object.values(BOOT_TABLE))
      for (const [, , unknown] of Object.values(rows)) expect(['nothing', 'not-our-boot']).toContain(unknown);
  });
});

describe('writing a lost environment anew', () => {
  test('a slot on trial stays on trial', () => {
    const state = restored(journal('armed'), 'B');
    expect(bootVerdict(journal('armed'), state, on('B'))).toBe('trial');
    expect(decideBoot(markFailed(state)).slot).toBe('A');
  });

  test('on the old slot the verified one is armed again, the unverified one is not', () => {
    expect(bootVerdict(journal('armed'), restored(journal('armed'), 'A'), on('A'))).toBe('arm-again');
    expect(bootVerdict(journal('writing'), restored(journal('writing'), 'A'), on('A'))).toBe('slot-unfinished');
  });

  test('with nothing under way only what runs is believed', () => {
    expect(restored(journal('none'), 'B')).toEqual(freshState('B'));
  });
});
