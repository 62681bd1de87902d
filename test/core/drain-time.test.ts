import fc from 'fast-check';
import { expect, test } from 'vitest';
import { expectedDrain, type PastDrain } from '../../src/core/drain-time.ts';

const drain = (seconds: number, vms: number): PastDrain => ({ durationMs: seconds * 1000, vms });

const CASES: readonly (readonly [string, PastDrain[], PastDrain[], number | null, object | null])[] = [
  ['nothing was ever drained', [], [], 3, null],
  ['nothing was ever drained, and nobody knows the VMs', [], [], null, null],
  ['one of its own, by VM', [drain(60, 3)], [], 3, { seconds: 60, drains: 1, of: 'host' }],
  ['as many VMs again take as long again', [drain(60, 3)], [], 6, { seconds: 120, drains: 1, of: 'host' }],
  ['no VM takes no time', [drain(60, 3)], [], 0, { seconds: 0, drains: 1, of: 'host' }],
  ['its own come before those of its group', [drain(60, 1)], [drain(5, 1)], 1, { seconds: 60, drains: 1, of: 'host' }],
  ['those of its group while it has none', [], [drain(5, 1)], 2, { seconds: 10, drains: 1, of: 'group' }],
  [
    'the one in the middle: a drain that hung for a day says little',
    [drain(86_400, 2), drain(20, 2), drain(30, 2)],
    [],
    2,
    { seconds: 30, drains: 3, of: 'host' },
  ],
  ['between two in the middle', [drain(40, 1), drain(20, 1)], [], 1, { seconds: 30, drains: 2, of: 'host' }],
  [
    'whole drains where nobody knows the VMs',
    [drain(100, 1), drain(10, 10), drain(50, 5)],
    [],
    null,
    { seconds: 50, drains: 3, of: 'host' },
  ],
  ['thirds of a second do not add up to one more', [drain(100, 7)], [], 7, { seconds: 100, drains: 1, of: 'host' }],
];

test.each(CASES)('%s', (_what, ofHost, ofGroup, vms, expected) => {
  expect(expectedDrain({ ofHost, ofGroup }, vms)).toEqual(expected);
});

test('it lies between the fastest and the slowest, in whatever order they come', () => {
  const past = fc.array(fc.record({ durationMs: fc.nat(86_400_000), vms: fc.integer({ min: 1, max: 1000 }) }), {
    minLength: 1,
    maxLength: 20,
  });
  fc.assert(
    fc.property(past, fc.option(fc.integer({ min: 1, max: 1000 })), (drains, vms) => {
      const each = drains.map((one) => (vms === null ? one.durationMs : (one.durationMs / one.vms) * vms) / 1000);
      const seconds = expectedDrain({ ofHost: drains, ofGroup: [] }, vms)?.seconds ?? -1;
      expect(seconds).toBeGreaterThanOrEqual(Math.floor(Math.min(...each)));
      expect(seconds).toBeLessThanOrEqual(Math.ceil(Math.max(...each)));
      expect(expectedDrain({ ofHost: drains.toReversed(), ofGroup: [] }, vms)?.seconds).toBe(seconds);
    }),
  );
});
