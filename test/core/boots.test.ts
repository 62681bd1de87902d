import { expect, test } from 'vitest';
import {
  type Begun,
  type KnownBoot,
  type Notice,
  noticeBoot,
  type Speaker,
  UNTOLD_BOOT,
} from '../../src/core/boots.ts';

const A = 'a';
const B = 'b';
const known = (states: Readonly<Record<string, KnownBoot['state']>>): KnownBoot[] =>
  Object.entries(states).map(([boot, state]) => ({ boot, state }));
const is = (boot: string | null, wants: Speaker['wants'] = 'report'): Speaker => ({ boot, wants });
const rebooting = (by: string | null): Begun => ({ state: 'rebooting', by });

test.each<[string, KnownBoot[], Speaker, Begun | null, Notice]>([
  ['the first that is ever told', [], is(A), null, 'first'],
  ['the same again', known({ a: 'current' }), is(A, 'grant'), null, 'as before'],
  ['a restart', known({ a: 'current' }), is(B), null, 'next'],
  [
    'a crash in the middle of a drain',
    known({ a: 'current' }),
    is(B, 'grant'),
    { state: 'draining', by: null },
    'next',
  ],
  ['a crash with a grant in hand', known({ a: 'current' }), is(B, 'grant'), { state: 'ready', by: null }, 'next'],
  ['the one before it, once more', known({ a: 'over', b: 'current' }), is(A), null, 'came back'],
  ['one that a person refused', known({ a: 'refused', b: 'current' }), is(A), null, 'refused'],
  ['the host after its reboot', known({ a: 'current' }), is(B), rebooting(A), 'next'],
  ['an agent that starts anew before its reboot', known({ a: 'current' }), is(A, 'grant'), rebooting(A), 'as before'],
  [
    'another that asks while one reboots',
    known({ a: 'current' }),
    is(B, 'grant'),
    rebooting(A),
    'uses the grant of another',
  ],
  [
    'another that was heard already',
    known({ a: 'over', b: 'current' }),
    is(B, 'grant'),
    rebooting(A),
    'uses the grant of another',
  ],
  [
    'while one verifies',
    known({ a: 'current' }),
    is(B, 'grant'),
    { state: 'verifying', by: A },
    'uses the grant of another',
  ],
  ['a maintenance that is over', known({ a: 'current' }), is(B, 'grant'), { state: 'completed', by: A }, 'next'],
  ['begun before boots were noted', known({ a: 'current' }), is(B, 'grant'), rebooting(null), 'next'],
  ['an agent from before', [], is(null, 'grant'), rebooting(UNTOLD_BOOT), 'as before'],
  ['an agent from before, after a newer one', known({ a: 'current' }), is(null), rebooting(A), 'as before'],
  [
    'one that does not say it uses the grant of one that does',
    known({ a: 'current' }),
    is(null, 'grant'),
    rebooting(A),
    'uses the grant of another',
  ],
  [
    'one that says it uses the grant of one that does not',
    [],
    is(A, 'grant'),
    rebooting(UNTOLD_BOOT),
    'uses the grant of another',
  ],
  ['a newer agent after its reboot', [], is(A), rebooting(UNTOLD_BOOT), 'first'],
])('%s', (_what, boots, speaker, begun, notice) => expect(noticeBoot(boots, speaker, begun)).toBe(notice));
