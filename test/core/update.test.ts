import { describe, expect, test } from 'vitest';
import { isSettled, nextPhase, UPDATE_TABLE, type UpdateEvent } from '../../src/core/update.ts';
import { PHASES, type Phase } from '../../src/format/journal.ts';

const EVENTS = [...new Set(Object.values(UPDATE_TABLE).flatMap((row) => Object.keys(row)))] as UpdateEvent[];

describe('the life of an update', () => {
  test.each(PHASES.flatMap((phase) => EVENTS.map((event) => [phase, event] as const)))('%s on %s', (phase, event) => {
    const to = (UPDATE_TABLE[phase] as Partial<Record<UpdateEvent, Phase>>)[event];
    if (to === undefined) {
      expect(() => nextPhase(phase, event)).toThrow(expect.objectContaining({ code: 'ILLEGAL_TRANSITION' }));
    } else {
      expect(nextPhase(phase, event)).toBe(to);
    }
  });

  test('from every phase a settled one can be reached, so no update is stuck for ever', () => {
    for (const phase of PHASES) expect(reachable(phase).some(isSettled), phase).toBe(true);
  });

  test('every phase is reached from idle', () => {
    expect(new Set(reachable('idle'))).toEqual(new Set(PHASES));
  });

  test('only a settled update lets another one start', () => {
    for (const phase of PHASES) expect('start' in UPDATE_TABLE[phase]).toBe(isSettled(phase));
  });
});

function reachable(from: Phase): Phase[] {
  const seen = new Set<Phase>([from]);
  for (const phase of seen) for (const to of Object.values(UPDATE_TABLE[phase]) as Phase[]) seen.add(to);
  return [...seen];
}
