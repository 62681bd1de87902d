import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { QxError } from '../../src/errors.ts';
import { applyEdit, type Edit, KINDS } from './edits.ts';
import { attempt, pure, type Target } from './target.ts';

const feed = async (run: (bytes: Uint8Array) => unknown, limits: Partial<Target> = {}) => {
  const target: Target = { name: 't', seeds: {}, dictionary: [], refusals: /^USAGE$/, start: pure(run), ...limits };
  return attempt(target, { run }, new Uint8Array(0));
};

test('an answer, and a refusal of its own kind, keep the contract', async () => {
  expect((await feed(() => 1)).refusal).toBeNull();
  const refused = feed(() => {
    throw new QxError('USAGE', 'no');
  });
  expect((await refused).refusal?.code).toBe('USAGE');
});

describe('what breaks the contract is noticed', () => {
  const spin = () => {
    for (const startMs = performance.now(); performance.now() - startMs < 50; );
  };
  const pollute = () => Object.defineProperty(Object.prototype, 'polluted', { value: 1, configurable: true });
  test.each<[string, () => unknown, Partial<Target>]>([
    ['a TypeError', () => (null as unknown as { x: number }).x, {}],
    ['a rejection with a refusal of another kind', () => Promise.reject(new QxError('IO', 'x')), {}],
    ['a wrong answer', () => assert.equal(1, 2), {}],
    ['a changed prototype', pollute, {}],
    ['time', spin, { maxCpuMs: 1 }],
    ['memory', () => Buffer.alloc(256 << 20, 1), { maxGrowthBytes: 64 << 20 }],
  ])('%s', async (_what, run, limits) => {
    try {
      await expect(feed(run, limits)).rejects.toMatchObject({ name: 'Violation' });
    } finally {
      Reflect.deleteProperty(Object.prototype, 'polluted');
    }
  });
});

test('every kind of edit changes an input', () => {
  const bytes = new TextEncoder().encode(JSON.stringify(Array.from({ length: 300 }, (_, a) => ({ a }))));
  const other = new TextEncoder().encode('other');
  const edit: Omit<Edit, 'kind'> = { at: 0.42, from: 0.1, lengthBytes: 7, choice: 6 };
  for (const kind of KINDS) {
    const changed = applyEdit(bytes, { ...edit, kind }, { dictionary: ['token'], other, maxBytes: 4096 });
    expect(Buffer.compare(changed, bytes), kind).not.toBe(0);
  }
});
