import { expect, test } from 'vitest';
import { isNamesake, nearestThatFit, stepsFrom } from '../../scripts/changed/nearest.ts';

const mentions = new Map([
  ['src/slot.ts', ['src/pieces.ts']],
  ['src/agent.ts', ['src/slot.ts', 'src/window.ts']],
  ['src/pieces.ts', ['src/slot.ts']],
  ['test/pieces.test.ts', ['src/pieces.ts']],
  ['test/agent.test.ts', ['src/agent.ts', 'test/agent.ts']],
  ['test/agent.ts', ['src/agent.ts']],
  ['test/window.test.ts', ['src/window.ts']],
]);

test('steps from what is changed, over the shortest way, also where files import one another', () => {
  expect([...stepsFrom(['src/pieces.ts'], mentions)]).toEqual([
    ['src/pieces.ts', 0],
    ['src/slot.ts', 1],
    ['test/pieces.test.ts', 1],
    ['src/agent.ts', 2],
    ['test/agent.test.ts', 3],
    ['test/agent.ts', 3],
  ]);
  expect([...stepsFrom(['test/window.test.ts', 'README.md'], mentions).keys()]).toEqual([
    'test/window.test.ts',
    'README.md',
  ]);
  expect([...stepsFrom([], mentions)]).toEqual([]);
});

test('a namesake is of the same room, and its name begins with a part of the path', () => {
  const isOf = (test: string) => isNamesake(test, ['openrc/deadline', 'src/agent/slot/medium.ts']);
  expect(['agent/slot-power', 'agent/slot', 'agent/medium'].map((name) => isOf(`test/${name}.test.ts`))).not.toContain(
    false,
  );
  expect(['agent/install', 'core/slot', 'agent/slots'].map((name) => isOf(`test/${name}.test.ts`))).not.toContain(true);
});

test('the nearest that fit, and of those as near the namesakes, then the shortest', () => {
  const tests = [
    { file: 'far', steps: 3, isNamesake: false, tookMs: 1 },
    { file: 'near and long', steps: 1, isNamesake: false, tookMs: 60 },
    { file: 'near', steps: 1, isNamesake: false, tookMs: 30 },
    { file: 'further and too long', steps: 2, isNamesake: false, tookMs: 11 },
    { file: 'further', steps: 2, isNamesake: false, tookMs: 8 },
    { file: 'namesake', steps: 2, isNamesake: true, tookMs: 9 },
  ];
  expect(nearestThatFit(tests, 100)).toEqual({
    chosen: ['near', 'near and long', 'namesake', 'far'],
    left: ['further', 'further and too long'],
  });
  expect(nearestThatFit(tests, 0).chosen).toEqual([]);
  expect(nearestThatFit([], 100)).toEqual({ chosen: [], left: [] });
});
