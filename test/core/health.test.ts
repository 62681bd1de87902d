import { expect, test } from 'vitest';
import { type Health, judgeHealth, type ProbeResult } from '../../src/core/health.ts';

const probe = (name: string, ok: boolean, fatal = true): ProbeResult => ({ name, ok, fatal, detail: `${name} ${ok}` });
const round = (ok: boolean): readonly ProbeResult[] => [probe('agent', ok), probe('time', false, false)];
const rounds = (marks: string): (readonly ProbeResult[])[] => [...marks].map((mark) => round(mark === '+'));

// + a round in which everything fatal holds, - one in which the agent does not answer; oldest first.
test.each<[marks: string, isLate: boolean, verdict: Health['verdict']]>([
  ['', false, 'waiting'],
  ['+', false, 'waiting'],
  ['++', false, 'waiting'],
  ['+++', false, 'healthy'],
  ['+++', true, 'healthy'],
  ['----+++', false, 'healthy'],
  ['+++-', false, 'waiting'],
  ['++-++', false, 'waiting'],
  ['-', false, 'waiting'],
  ['-', true, 'unhealthy'],
  ['+++-', true, 'unhealthy'],
  ['----+', true, 'waiting'],
  ['---++', true, 'waiting'],
  ['+-+-+', false, 'waiting'],
  ['+-+', true, 'waiting'],
  ['--++-', true, 'unhealthy'],
])('rounds %s, time up: %s: %s', (marks, isLate, verdict) => {
  expect(judgeHealth(rounds(marks), isLate).verdict).toBe(verdict);
});

test('a verdict names what it rests on, and a probe that is not fatal only warns', () => {
  expect(judgeHealth(rounds('-'), true)).toEqual({ verdict: 'unhealthy', failed: [probe('agent', false)] });
  expect(judgeHealth(rounds('+++'), false)).toEqual({ verdict: 'healthy', warnings: [probe('time', false, false)] });
});
