import { createHash } from 'node:crypto';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { detectLayout } from '../../src/agent/slot/layout.ts';
import { type Piece, piecesOfFile } from '../../src/agent/slot/pieces.ts';
import { writeSlotFrom } from '../../src/agent/slot.ts';
import type { Boot, Disk, OpenDevice } from '../../src/ports.ts';
import { NO_DISKS } from '../support/fakes.ts';
import { IMAGE_COMMANDS, sharedImages, type TestImage } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import {
  grubSees,
  isHeadZero,
  type SlotBench,
  slotBench,
  stage,
  stagedPath,
  withMethods,
  writeImage,
} from '../support/slots.ts';

const MIB = 1 << 20;
const LAYOUTS = ['raw', 'filesystem'] as const;
const imageWith = sharedImages();
const testImage = (): Promise<TestImage> => imageWith({ fillBytes: 3 * MIB });

/** Slot B on a disk that may answer each call otherwise; calls are counted from 1, together. */
function diskWith({ disk }: SlotBench, write: Fault, sync: Fault): { disk: Disk; calls: () => number } {
  const count = { calls: 0 };
  const wrap = (device: OpenDevice): OpenDevice => ({
    write: (offset, bytes) => write(++count.calls, () => device.write(offset, bytes)),
    sync: () => sync(++count.calls, () => device.sync()),
    close: () => device.close(),
  });
  const openForWriting = async (slot: 'A' | 'B') => wrap(await disk.openForWriting(slot));
  return { disk: withMethods(disk, { openForWriting }), calls: () => count.calls };
}

type Fault = (call: number, work: () => Promise<void>) => Promise<void>;
const works: Fault = (_, work) => work();
const eio = () => Promise.reject(Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO', syscall: 'write' }));

requires({ commands: IMAGE_COMMANDS })('a failing disk', () => {
  test.each(LAYOUTS)('is reported as what it said, at every call (%s)', async (layout) => {
    const bench = await slotBench({ slotMib: 8 });
    const image = await testImage();
    const counted = diskWith(bench, works, works);
    await writeImage(bench, image, { layout, ports: { disk: counted.disk } });
    expect(counted.calls()).toBeGreaterThan(8);
    for (let at = 1; at <= counted.calls(); at++) {
      const once: Fault = (call, work) => (call === at ? eio() : work());
      const { disk } = diskWith(bench, once, once);
      await expect(writeImage(bench, image, { layout, ports: { disk } })).rejects.toMatchObject({ code: 'EIO' });
      expect(await isHeadZero(bench), `call ${at}`).toBe(true);
    }
  });

  test.each(LAYOUTS)('that never works again is reported too, and that it was not erased (%s)', async (layout) => {
    const bench = await slotBench({ slotMib: 8 });
    const broken: Fault = (call, work) => (call >= 4 ? eio() : work());
    const { disk } = diskWith(bench, broken, broken);
    await expect(writeImage(bench, await testImage(), { layout, ports: { disk } })).rejects.toMatchObject({
      code: 'EIO',
    });
    expect(bench.log.lines).toContainEqual(expect.objectContaining({ level: 'warn', event: 'slot_not_erased' }));
    expect(await grubSees(bench, await testImage())).toBe('none');
  });

  test.each(LAYOUTS)('defect 30: that drops any one write without a word is found out (%s)', async (layout) => {
    const bench = await slotBench({ slotMib: 8 });
    const image = await testImage();
    const writes: number[] = [];
    const counted = diskWith(bench, (call, work) => [writes.push(call), work()][1] as Promise<void>, works);
    await writeImage(bench, image, { layout, ports: { disk: counted.disk } });
    for (const lost of writes.slice(1)) {
      // No zeros: what is lost may itself be zeros, and would not be missed.
      await writeFile(bench.slotB, new Uint8Array(8 * MIB).fill(0xa5));
      const { disk } = diskWith(bench, (call, work) => (call === lost ? Promise.resolve() : work()), works);
      const result = writeImage(bench, image, { layout, ports: { disk } });
      await expect(result, `write at call ${lost}`).rejects.toMatchObject({ code: 'READBACK_MISMATCH' });
      expect(await isHeadZero(bench)).toBe(true);
    }
  });

  test.each([
    ['raw', 'behind the first MiB', 2 * MIB],
    ['filesystem', 'behind the first MiB', 2 * MIB],
    ['raw', 'in the first MiB', 77_777],
    ['filesystem', 'in the first MiB', 77_777],
  ] as const)('that changes a byte after the last write is found out (%s, %s)', async (layout, _, at) => {
    const bench = await slotBench({ slotMib: 8 });
    const afterSync: Fault = async (_call, work) => {
      await work();
      const file = await open(bench.slotB, 'r+');
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
      await file.write(Buffer.of((buffer[0] ?? 0) ^ 0x10), 0, 1, at);
      await file.close();
    };
    let syncs = 0;
    // The second sync ends the part behind the first MiB, the fourth everything.
    const wanted = at > MIB ? 2 : 4;
    const { disk } = diskWith(bench, works, (call, work) => (++syncs === wanted ? afterSync(call, work) : work()));
    const result = writeImage(bench, await testImage(), { layout, ports: { disk } });
    await expect(result).rejects.toMatchObject({
      code: 'READBACK_MISMATCH',
      next: expect.stringContaining('smartctl'),
    });
    expect([await isHeadZero(bench), await grubSees(bench, await testImage())]).toEqual([true, 'none']);
  });

  test('whose file system does not hold what was put into it is found out', async () => {
    const bench = await slotBench({ slotMib: 8 });
    const hashFileInSlot: Disk['hashFileInSlot'] = async (slot, path) =>
      path === '/boot/vmlinuz' ? '0'.repeat(64) : bench.disk.hashFileInSlot(slot, path);
    const disk = withMethods(bench.disk, { hashFileInSlot });
    const result = writeImage(bench, await testImage(), { layout: 'filesystem', ports: { disk } });
    await expect(result).rejects.toMatchObject({
      code: 'READBACK_MISMATCH',
      message: expect.stringContaining('/boot/vmlinuz'),
    });
    expect(await isHeadZero(bench)).toBe(true);
  });
});

requires({ commands: IMAGE_COMMANDS })('the layout of a host', () => {
  test.each(LAYOUTS)('is that of the running slot, then of the other one (%s)', async (layout) => {
    const bench = await slotBench({ slotMib: 8 });
    await writeImage(bench, await testImage(), { layout });
    expect(await detectLayout(bench.disk, 'auto', 'A', 'B')).toBe(layout);
    expect(await detectLayout(bench.disk, 'auto', 'B', 'A')).toBe(layout);
    expect(await detectLayout(bench.disk, 'auto', 'B', null)).toBe(layout);
    const other = layout === 'raw' ? 'filesystem' : 'raw';
    await writeFile(join(bench.root, 'slot-a'), await readFile(bench.slotB));
    await writeImage(bench, await testImage(), { layout: other });
    expect(await detectLayout(bench.disk, 'auto', 'B', 'A'), 'A runs').toBe(layout);
    expect(await detectLayout(bench.disk, 'auto', 'A', 'B'), 'B runs').toBe(other);
    expect(await detectLayout(bench.disk, 'auto', 'B', null), 'neither runs: the one that stays').toBe(layout);
  });

  test('is what the configuration says, and raw where nothing says anything', async () => {
    const bench = await slotBench({ slotMib: 8 });
    expect(await detectLayout(bench.disk, 'auto', 'B', 'A')).toBe('raw');
    expect(await detectLayout(bench.disk, 'filesystem', 'B', 'A')).toBe('filesystem');
    await writeImage(bench, await testImage(), { layout: 'filesystem' });
    expect(await detectLayout(bench.disk, 'raw', 'A', 'B')).toBe('raw');
  });

  test.each(LAYOUTS)('decides how a staged image is written (%s)', async (layout) => {
    const bench = await slotBench({ slotMib: 8 });
    const image = await testImage();
    await stage(bench, image);
    const boot = { booted: async () => ({ slot: 'A' }) } as unknown as Boot;
    await writeSlotFrom(
      { ...bench, boot, disks: NO_DISKS, config: { slotLayout: layout, slots: { A: '/a', B: '/b' } } },
      {
        slot: 'B',
        image: { artifact: 'os', sha256: image.sha256, size_bytes: image.sizeBytes },
        version: '2.0.0',
        path: stagedPath(image),
        invalidate: async () => undefined,
        watch: {},
      },
    );
    expect(await detectLayout(bench.disk, 'auto', 'A', 'B')).toBe(layout);
    expect(await grubSees(bench, image)).toBe('same');
  });
});

describe('memory', () => {
  const SIZE_BYTES = 300 * MIB;
  const ALLOWED_GROWTH_BYTES = 96 * MIB;

  test('does not grow with the image', async () => {
    const bench = await slotBench({ slotMib: 301 });
    const image = await largeImage(bench.root);
    const before = process.memoryUsage().rss;
    let highest = before;
    const progress = () => {
      highest = Math.max(highest, process.memoryUsage().rss);
    };
    const pieces: AsyncIterable<Piece> = piecesOfFile(bench.ranges, stagedPath(image), SIZE_BYTES);
    await writeImage(bench, image, { pieces, watch: { progress } });
    expect(highest - before).toBeLessThan(ALLOWED_GROWTH_BYTES);
  });

  /** A superblock of xz and then a hole: as far as writing goes, a whole image. */
  async function largeImage(root: string): Promise<TestImage> {
    const start = Buffer.alloc(96);
    start.writeUInt32LE(0x73717368, 0);
    start.writeUInt32LE(131072, 12);
    for (const [at, value] of [
      [20, 4],
      [22, 17],
      [28, 4],
    ] as const)
      start.writeUInt16LE(value, at);
    for (const [at, value] of [
      [40, SIZE_BYTES],
      [64, 1000],
      [72, 2000],
    ] as const)
      start.writeBigUInt64LE(BigInt(value), at);
    const path = join(root, 'large.squashfs');
    await writeFile(path, start);
    await truncate(path, SIZE_BYTES);
    const hash = createHash('sha256').update(start);
    const zeros = new Uint8Array(MIB);
    hash.update(zeros.subarray(start.length));
    for (let mib = 1; mib < SIZE_BYTES / MIB; mib++) hash.update(zeros);
    return { path, sha256: hash.digest('hex'), sizeBytes: SIZE_BYTES, kernel: '', initramfs: '' };
  }
});
