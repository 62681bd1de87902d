import { expect, test } from 'vitest';
import { isHostAtFault } from '../../src/core/memory.ts';
import { type Evidence, trialEnd } from '../../src/core/trial-end.ts';

const NOTHING: Evidence = { slot: 'B', why: '', isWhole: null, started: 0, timedOutS: null };

test.each<[what: string, evidence: Partial<Evidence>, code: string, detail: RegExp, isHostAtFault: boolean]>([
  ['no try came up, the slot is whole', { isWhole: true }, 'UNHEALTHY', /none of its tries/, false],
  ['no try came up, nobody can tell what is on the slot', {}, 'UNHEALTHY', /none of its tries/, false],
  ['no try came up, the slot lost bytes', { isWhole: false }, 'READBACK_MISMATCH', /smartctl/, true],
  ['GRUB could not load it', { why: 'unreadable', isWhole: true }, 'IMAGE_UNBOOTABLE', /another processor/, false],
  ['GRUB could not load it any more', { why: 'unreadable', isWhole: false }, 'READBACK_MISMATCH', /slot B/, true],
  ['GRUB could not write', { why: 'unsaved', started: 2 }, 'BOOT_ENV_READ_ONLY', /on \/boot/, true],
  ['too late once, power cuts else', { started: 3, timedOutS: 600 }, 'UNHEALTHY', /600 s \(deadline_s/, false],
  ['power cuts', { started: 3 }, 'TRIAL_INTERRUPTED', /before the health gate had decided/, true],
  ['a power cut, and two before the scripts', { started: 1 }, 'TRIAL_INTERRUPTED', /each time/, true],
])('%s', (_what, evidence, code, detail, isOfHost) => {
  const end = trialEnd({ ...NOTHING, ...evidence });
  expect(end).toEqual({ code, detail: expect.stringMatching(detail) });
  expect(isHostAtFault(end.code)).toBe(isOfHost);
});
