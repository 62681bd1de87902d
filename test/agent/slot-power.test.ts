import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { LAYOUT_BYTES, layoutOf, type SlotLayout } from '../../src/format/slot-layout.ts';
import type { Disk, OpenDevice } from '../../src/ports.ts';
import { IMAGE_COMMANDS, sharedImages, type TestImage } from '../support/images.ts';
import { cutAfter, PowerCut } from '../support/powercut.ts';
import { requires } from '../support/requires.ts';
import { grubSees, type SlotBench, slotBench, withMethods, writeImage } from '../support/slots.ts';

const MIB = 1 << 20;
const ORDER = ['old', 'unreadable', 'new'];
const imageWith = sharedImages();
const oldImage = (): Promise<TestImage> => imageWith({ fillBytes: MIB });
const newImage = (): Promise<TestImage> => imageWith({ fillBytes: 2 * MIB });

/** What the slot is: GRUB is asked only where the slot has the first bytes of a file system at all. */
async function stateOf(bench: SlotBench): Promise<'old' | 'new' | 'unreadable' | 'mixed'> {
  if (layoutOf((await readFile(bench.slotB)).subarray(0, LAYOUT_BYTES)) === null) return 'unreadable';
  if ((await grubSees(bench, await newImage())) === 'same') return 'new';
  return (await grubSees(bench, await oldImage())) === 'same' ? 'old' : 'mixed';
}

/** One attempt whose power goes after `count` effects. */
async function writeUntil(bench: SlotBench, count: number, layout: SlotLayout, torn: boolean) {
  bench.events.length = 0;
  const { disk, files, ranges } = bench;
  const cut = cutAfter({ disk, files, ranges }, count, { torn });
  const result = await writeImage(bench, await newImage(), { layout, ports: cut.ports }).catch((error) => error);
  const state = await stateOf(bench);
  const hasWritten = cut.effects.includes('write');
  if (hasWritten) expect(bench.events).toEqual(['invalidate']);
  if (state === 'old') expect(hasWritten).toBe(false);
  // A cut in the cleaning up, when all is done, is no failure.
  if (state === 'new') expect([undefined, PowerCut]).toContain(result?.constructor);
  else expect(result).toBeInstanceOf(PowerCut);
  return { state, isOff: cut.isOff() };
}

requires({ commands: IMAGE_COMMANDS })('a power cut while a slot is written', () => {
  describe.each([
    ['raw', 'raw', false],
    ['raw', 'raw', true],
    ['raw', 'filesystem', true],
    ['filesystem', 'filesystem', false],
    ['filesystem', 'filesystem', true],
    ['filesystem', 'raw', true],
  ] as const)('with %s, over %s (torn: %s),', (layout, before, torn) => {
    test('leaves old, nothing or new after every single effect', async () => {
      const bench = await slotBench({ slotMib: 8 });
      await writeImage(bench, await oldImage(), { layout: before });
      const content = await readFile(bench.slotB);
      const seen: string[] = [];
      for (let count = 0, isOff = true; isOff; count++) {
        await writeFile(bench.slotB, content);
        const run = await writeUntil(bench, count, layout, torn);
        isOff = run.isOff;
        seen.push(run.state);
      }
      expect(seen).toEqual([...seen].sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b)));
      expect(new Set(seen)).toEqual(new Set(ORDER));
    });
  });

  describe.each(['raw', 'filesystem'] as const)('on a disk with a cache of its own, with %s,', (layout) => {
    test('leaves nothing or new, whatever of the cache reached the medium', async () => {
      const bench = await slotBench({ slotMib: 8 });
      await writeImage(bench, await oldImage(), { layout });
      const content = await readFile(bench.slotB);
      const syncs = await writeOnCachingDisk(bench, layout, Number.POSITIVE_INFINITY, 0);
      expect([syncs, await stateOf(bench)]).toEqual([4, 'new']);
      for (let lostAt = 0; lostAt < syncs; lostAt++) {
        // Losing everything, everything but one, and nothing of what waited.
        for (const kept of [0b000, 0b001, 0b010, 0b100, 0b111]) {
          await writeFile(bench.slotB, content);
          await writeOnCachingDisk(bench, layout, lostAt, kept);
          const possible = [['old', 'unreadable'], ['unreadable'], ['unreadable'], ['unreadable', 'new']][lostAt];
          expect(possible, `sync ${lostAt}, kept ${kept}`).toContain(await stateOf(bench));
        }
      }
    });
  });

  test('is converged from by writing again', async () => {
    const bench = await slotBench({ slotMib: 8 });
    const image = await newImage();
    const cut = cutAfter({ disk: bench.disk }, 6);
    await expect(writeImage(bench, image, { ports: cut.ports })).rejects.toBeInstanceOf(PowerCut);
    expect(await stateOf(bench)).toBe('unreadable');
    await writeImage(bench, image);
    expect(await bench.disk.hashRange('B', 0, image.sizeBytes)).toBe(image.sha256);
  });
});

/**
 * A disk that keeps writes in its cache until it is told to sync. In sync number `lostAt` the power goes: of what the cache
 * holds, write n has reached the medium only where bit n % 3 of `kept` is set. Answers with the syncs that it finished.
 */
async function writeOnCachingDisk(bench: SlotBench, layout: SlotLayout, lostAt: number, kept: number): Promise<number> {
  const power = { syncs: 0, isOff: false };
  const check = (): void => {
    if (power.isOff) throw new PowerCut('no power');
  };
  const caching = (device: OpenDevice): OpenDevice => {
    const cache: [number, Uint8Array][] = [];
    const flush = async (reaches: (n: number) => boolean): Promise<void> => {
      for (const [n, [offset, bytes]] of cache.entries()) if (reaches(n)) await device.write(offset, bytes);
      cache.length = 0;
    };
    return {
      write: async (offset, bytes) => {
        check();
        cache.push([offset, bytes.slice()]);
      },
      sync: async () => {
        check();
        if (power.syncs === lostAt) {
          power.isOff = true;
          await flush((n) => ((kept >> (n % 3)) & 1) === 1);
          throw new PowerCut(`power cut in sync ${lostAt}`);
        }
        power.syncs++;
        await flush(() => true);
      },
      close: () => device.close(),
    };
  };
  const openForWriting: Disk['openForWriting'] = async (slot) => caching(await bench.disk.openForWriting(slot));
  const ports = { disk: withMethods(bench.disk, { openForWriting }) };
  const result = writeImage(bench, await newImage(), { layout, ports });
  await (Number.isFinite(lostAt) ? expect(result).rejects.toBeInstanceOf(PowerCut) : result);
  return power.syncs;
}
