import { expect, test } from 'vitest';
import { armTrial, type BootState, freshState, invalidate, markFailed, markGood } from '../../src/core/boot.ts';
import { contradiction } from '../../src/core/boot-truth.ts';
import { canBeImage } from '../../src/core/running-image.ts';
import { parseCmdline } from '../../src/format/cmdline.ts';
import type { Phase } from '../../src/format/journal.ts';
import { TRIAL } from '../support/boot-states.ts';

const both: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };
const armed = armTrial(invalidate(both, 'B'), 'B', TRIAL);
const last = (phase: Phase) => ({ id: TRIAL, phase, target_version: '1.2.0' });

test.each<[string, string, BootState | null, ReturnType<typeof last> | null, RegExp | null]>([
  ['an ordinary boot', 'slot=A', both, last('complete'), null],
  ['a trial that both know of', `slot=B quantix.trial=${TRIAL}`, armed, last('armed'), null],
  [
    'a trial that was over here before it began',
    `slot=B quantix.trial=${TRIAL}`,
    markGood(armed, 'B'),
    last('complete'),
    /says nothing/,
  ],
  ['a trial of which nothing is known here', `slot=B quantix.trial=${TRIAL}`, both, null, /says nothing/],
  [
    'a trial that is given up and was not confirmed',
    `slot=A quantix.failed=${TRIAL}`,
    markFailed(armed),
    last('armed'),
    null,
  ],
  [
    'a trial that is given up and is complete here',
    `slot=A quantix.failed=${TRIAL}`,
    both,
    last('complete'),
    /given up the update to 1.2.0/,
  ],
  ['the same, in the boots that follow', 'slot=A', markFailed(armed), last('complete'), /given up/],
  ['a trial that was rolled back here', 'slot=A', markFailed(armed), last('rolledBack'), null],
  ['no environment', `slot=B quantix.trial=${TRIAL}`, null, last('armed'), null],
  ['a system that our GRUB did not start', 'nothing=1', both, last('complete'), null],
])('%s', (_what, words, env, journal, told) => {
  const found = contradiction(parseCmdline(`quantix.${words}`), env, journal);
  if (told === null) expect(found).toBeNull();
  else expect(found).toMatch(told);
});

test.each<[string, string | null, string | null, boolean]>([
  ['says what the image said', '1.2.0', '1.2.0', true],
  ['says another version than the image', '0.9.0', '1.2.0', false],
  ['says the old version, the image the new one', '1.0.0', '1.2.0', false],
  ['says nothing, where the image says its version', null, '1.2.0', false],
  ['and the image say nothing', null, null, true],
  ['says the new version of an image that says nothing', '1.2.0', null, true],
  ['goes on saying what it said before, of an image that says nothing', '1.0.0', null, true],
  ['says what was never here, of an image that says nothing', '0.9.0', null, false],
])('a system that %s', (_what, running, written, can) => {
  expect(canBeImage({ running, written, target: '1.2.0', previous: '1.0.0' })).toBe(can);
});
