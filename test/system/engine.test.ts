import { getHeapStatistics } from 'node:v8';
import { expect, test, vi } from 'vitest';
import { preferMemory } from '../../src/system/engine.ts';

const MIB = 1 << 20;
const usedBytes = (): number => getHeapStatistics().used_heap_size;

/** While a little work is done, as in an agent that waits. */
const until = (look: () => void): Promise<void> =>
  vi.waitFor(
    () => {
      Array.from({ length: 10_000 }, (_, n) => ({ n }));
      look();
    },
    { timeout: 20_000 },
  );

test('memory that was thrown away is given back, also when nothing needs it', async () => {
  preferMemory(50);
  const held: { items: object[] } = { items: Array.from({ length: 400_000 }, (_, n) => ({ n })) };
  // A full collection has found it alive, so that only the next full one takes it.
  const witness = new WeakRef({});
  await until(() => expect(witness.deref() === undefined).toBe(true));
  const before = usedBytes();
  held.items = [];
  await until(() => expect(usedBytes()).toBeLessThan(before - 8 * MIB));
});
