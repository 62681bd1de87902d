import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BootState, type BootWorld, decideBoot } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import { allBootStates } from '../support/boot-states.ts';
import {
  type Bench,
  COMMANDS,
  expected,
  makeBench,
  observed,
  readOnlyBootDisk,
  stateOnBoth,
} from '../support/grub-bench.ts';
import { requires } from '../support/requires.ts';

// The whole decision, not samples of it: every state that the environment can hold, on every kind of machine, through the
// real grub.cfg in the real GRUB, compared with core/boot.ts.

const READABLE: BootWorld['readable'][] = [
  { A: true, B: true },
  { A: true, B: false },
  { A: false, B: true },
  { A: false, B: false },
];
const BENCHES = 2;

requires({ commands: COMMANDS })('grub.cfg in the real GRUB decides like core/boot.ts', () => {
  const states = allBootStates();
  let folder = '';
  let benches: Bench[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
    benches = await Promise.all(Array.from({ length: BENCHES }, (_, n) => bench(folder, n)));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  describe.each(READABLE)('slot A readable: $A, slot B readable: $B', (readable) => {
    test('all states', { timeout: 300_000 }, async () => {
      const world = { readable, canSave: true };
      const distinct = readable === READABLE[0] ? states : states.filter((state) => state.failed === '');
      const differences = await compare(benches, distinct, async (one, state) => {
        const started = await one.start({ copies: stateOnBoth(state), readable });
        expect(started.after['grubenv.bak'], 'the copy that was not read').toEqual(encodeBoot(state));
        return [observed(started), expected(decideBoot(state, world))];
      });
      expect(differences).toEqual([]);
    });
  });

  test('all trials on a boot disk that cannot be written to', { timeout: 300_000 }, async () => {
    const onTrial = states.filter((state) => state.trial !== '' && state.failed === '');
    const differences = await compare(benches, onTrial, async (one, state) => {
      const copies = stateOnBoth(state);
      const bootDisk = await readOnlyBootDisk(one.folder, copies);
      const results: [unknown, unknown][] = [];
      for (const readable of READABLE) {
        const started = await one.start({ copies, bootDisk, readable });
        results.push([
          observed(started),
          expected({ ...decideBoot(state, { readable, canSave: false }), after: state }),
        ]);
      }
      return [results.map(([left]) => left), results.map(([, right]) => right)];
    });
    expect(differences).toEqual([]);
  });
});

async function bench(folder: string, n: number): Promise<Bench> {
  const own = join(folder, String(n));
  await mkdir(own);
  return makeBench(own);
}

type Compare = (bench: Bench, state: BootState) => Promise<readonly [unknown, unknown]>;

/** The first few differences, with the state that shows them. */
async function compare(benches: readonly Bench[], states: readonly BootState[], run: Compare): Promise<unknown[]> {
  const queue = states[Symbol.iterator]();
  const differences: unknown[] = [];
  const work = async (one: Bench) => {
    for (const state of queue) {
      const [grub, ours] = await run(one, state);
      if (JSON.stringify(grub) !== JSON.stringify(ours) && differences.length < 5)
        differences.push({ state, grub, ours });
    }
  };
  await Promise.all(benches.map(work));
  return differences;
}
