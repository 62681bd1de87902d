import { getHeapStatistics } from 'node:v8';
import { expect, test, vi } from 'vitest';
import { preferMemory } from '../../src/system/engine.ts';

const MIB = 1 << 20;
const usedBytes = (): number => getHeapStatistics().used_heap_size;

test('memory that was thrown away is given back, also when nothing needs it', async () => {
  preferMemory(50);
  const held: { items: object[] } = { items: Array.from({ length: 400_000 }, (_, n) => ({ n })) };
  // Survives a collection, so that only a full one takes it later.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const before = usedBytes();
  held.items = [];
  await vi.waitFor(() => expect(usedBytes()).toBeLessThan(before - 8 * MIB), { timeout: 20_000 });
});
