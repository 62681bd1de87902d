import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadCorpus, nameOf } from './corpus.ts';
import { applyEdit, type Edit, KINDS } from './edits.ts';
import { attempt, bytesOf, maxBytesOf, type Running } from './target.ts';
import { targets } from './targets.ts';

/**
 * Whatever bytes come, a decoder answers in bounded time and memory, with what it read or with a refusal of its own kind. The
 * inputs are those that `npm run fuzz` kept, those written by hand, and changes of both.
 */

const RUNS = 150;

const part = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const edits: fc.Arbitrary<Edit[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(...KINDS),
    at: part,
    from: part,
    lengthBytes: fc.integer({ min: 1, max: 256 }),
    choice: fc.nat(),
  }),
  { minLength: 1, maxLength: 4 },
);

describe.each(targets)('$name', (target) => {
  let running: Running;
  let corpus: readonly Uint8Array[];
  beforeAll(async () => {
    running = await target.start();
    corpus = await loadCorpus(target.name);
  });
  afterAll(() => running.close?.());

  const holds = async (bytes: Uint8Array) => void (await attempt(target, running, bytes));

  test.each(Object.entries(target.seeds))('%s', (_name, seed) => holds(bytesOf(seed)));

  test('what the fuzzer kept', async () => {
    const failures: string[] = [];
    for (const input of corpus) await holds(input).catch((error) => failures.push(`${nameOf(input)}: ${error}`));
    expect(failures).toEqual([]);
  });

  test('changes of all of these', async () => {
    const inputs = [...Object.values(target.seeds).map(bytesOf), ...corpus].filter(
      ({ length }) => length <= maxBytesOf(target),
    );
    const input = fc.constantFrom(...inputs);
    const invented = fc.tuple(input, input, edits).map(([start, other, changes]) => {
      const material = { dictionary: target.dictionary, maxBytes: maxBytesOf(target), other };
      const bytes = changes.reduce((changed, edit) => applyEdit(changed, edit, material), start);
      return target.repair?.(bytes) ?? bytes;
    });
    await fc.assert(fc.asyncProperty(invented, holds), { numRuns: RUNS });
  });

  test('bytes of any kind', () =>
    fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), holds), { numRuns: RUNS }));

  test('JSON of any kind', () => fc.assert(fc.asyncProperty(fc.json().map(bytesOf), holds), { numRuns: RUNS }));
});
