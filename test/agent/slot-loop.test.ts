import { execFile } from 'node:child_process';
import { cp, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { GRUB_COMMANDS } from '../../scripts/support/grub-emu.ts';
import { bootHost } from '../../scripts/support/grub-host.ts';
import { freshState } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import type { SlotLayout } from '../../src/format/slot-layout.ts';
import type { Disk } from '../../src/ports.ts';
import { hashOf, IMAGE_COMMANDS, sharedImages, type TestImage } from '../support/images.ts';
import { LOOP_REQUIREMENTS, loopDevice, mountReadOnly } from '../support/loop.ts';
import { requires } from '../support/requires.ts';
import { grubSees, type SlotBench, slotBench, withMethods, writeImage } from '../support/slots.ts';
import { temporaryFolder } from '../support/temp.ts';

const execute = promisify(execFile);
const MIB = 1 << 20;
const SLOT_BYTES = 192 * MIB;
const LAYOUTS = ['raw', 'filesystem'] as const;
const BUILD_TIMEOUT_MS = 300_000;
const imageWith = sharedImages();

/** Programs of this machine, compressed by xz, and more that cannot be compressed: as large as an image of a host. */
const hostImage = (): Promise<TestImage> => imageWith({ folders: ['/usr/sbin', '/etc/init.d'], fillBytes: 62 * MIB });
const smallImage = (): Promise<TestImage> => imageWith({ fillBytes: 3 * MIB });

async function loopBench(sizeBytes = SLOT_BYTES): Promise<SlotBench & { backing: string }> {
  const backing = join(await temporaryFolder(), 'backing');
  const deviceB = await loopDevice(backing, sizeBytes);
  return { ...(await slotBench({ deviceB })), backing };
}

/** Puts slot B first in the environment and starts through the real grub.cfg. */
async function startFrom(bench: SlotBench) {
  const grubFolder = join(bench.root, 'grub');
  await mkdir(grubFolder);
  await cp('grub/grub.cfg', join(grubFolder, 'grub.cfg'));
  for (const copy of ['grubenv', 'grubenv.bak']) await writeFile(join(grubFolder, copy), encodeBoot(freshState('B')));
  return bootHost({ grubFolder, slotA: join(bench.root, 'slot-a'), slotB: bench.slotB });
}

/** What the kernel finds on the slot when it mounts it, compared with what went into the image. */
async function mountedContent(bench: SlotBench, layout: SlotLayout) {
  const at = join(bench.root, 'mnt');
  await mkdir(at);
  await mountReadOnly(bench.slotB, at, layout === 'raw' ? 'squashfs' : 'ext4');
  const image = layout === 'raw' ? bench.slotB : join(at, 'quantix/system.squashfs');
  return { kernel: await hashOf(join(at, 'boot/vmlinuz')), initramfs: await hashOf(join(at, 'boot/initramfs')), image };
}

requires({ ...LOOP_REQUIREMENTS, commands: ['losetup', 'mount', ...IMAGE_COMMANDS, ...GRUB_COMMANDS] })(
  'a real device as a slot',
  () => {
    test.each(LAYOUTS)(
      'holds a whole host image, for the kernel and for GRUB (%s)',
      async (layout) => {
        const [bench, image] = [await loopBench(), await hostImage()];
        expect(image.sizeBytes).toBeGreaterThan(60 * MIB);
        const before = process.memoryUsage().rss;
        let highest = before;
        const progress = () => {
          highest = Math.max(highest, process.memoryUsage().rss);
        };
        await writeImage(bench, image, { layout, watch: { progress } });
        expect(highest - before).toBeLessThan(96 * MIB);

        const boot = await startFrom(bench);
        expect([boot.slot, boot.kernel?.path]).toEqual(['B', '(hd2)/boot/vmlinuz']);
        expect(boot.kernel?.cmdline).toContain(layout === 'raw' ? 'root=PARTLABEL=QUANTIX-B' : 'root=LABEL=QUANTIX-B');
        expect(await grubSees(bench, image)).toBe('same');

        const mounted = await mountedContent(bench, layout);
        expect(mounted.kernel).toEqual(await hashOf(image.kernel));
        expect(mounted.initramfs).toEqual(await hashOf(image.initramfs));
        const { stdout } = await execute('unsquashfs', ['-l', mounted.image, 'usr/fill']);
        expect(stdout).toContain('squashfs-root/usr/fill');
        expect((await bench.disk.device('B'))?.isMounted).toBe(true);
        await expect(writeImage(bench, image, { layout })).rejects.toMatchObject({ code: 'SLOT_RUNNING' });
      },
      BUILD_TIMEOUT_MS,
    );

    describe.each(LAYOUTS)('in the layout %s', (layout) => {
      test('takes two images in a row, and the other layout', async () => {
        const [bench, image] = [await loopBench(), await smallImage()];
        const second = await imageWith({ fillBytes: MIB });
        await writeImage(bench, image, { layout });
        await writeImage(bench, second, { layout });
        expect(await grubSees(bench, second)).toBe('same');
        await writeImage(bench, image, { layout: layout === 'raw' ? 'filesystem' : 'raw' });
        expect(await grubSees(bench, image)).toBe('same');
      });

      test.each([
        ['behind the first MiB', 2 * MIB, 2],
        ['in the first MiB', 77_777, 4],
      ])('does not boot with a byte that the medium changed %s', async (_, at, sync) => {
        const [bench, image] = [await loopBench(), await smallImage()];
        const disk = flippingDisk(bench, at, sync);
        await expect(writeImage(bench, image, { layout, ports: { disk } })).rejects.toMatchObject({
          code: 'READBACK_MISMATCH',
        });
        expect((await readFile(bench.backing)).subarray(0, MIB).every((byte) => byte === 0)).toBe(true);
        expect(await grubSees(bench, image)).toBe('none');
        expect((await startFrom(bench)).kernel).toBeNull();
      });

      test('that is too small is refused before a byte of it changes', async () => {
        const [bench, image] = [await loopBench(2 * MIB), await smallImage()];
        const before = await hashOf(bench.backing);
        const result = writeImage(bench, image, { layout });
        await expect(result).rejects.toMatchObject({ code: 'SLOT_TOO_SMALL' });
        expect([bench.events, await hashOf(bench.backing)]).toEqual([[], before]);
      });
    });
  },
);

/** Changes one byte of the medium, under the page cache of the device, once sync number `wanted` is done. */
function flippingDisk(bench: SlotBench & { backing: string }, at: number, wanted: number): Disk {
  const openForWriting: Disk['openForWriting'] = async (slot) => {
    const device = await bench.disk.openForWriting(slot);
    let syncs = 0;
    const sync = async (): Promise<void> => {
      await device.sync();
      if (++syncs !== wanted) return;
      const file = await open(bench.backing, 'r+');
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
      await file.write(Buffer.of((buffer[0] ?? 0) ^ 0x10), 0, 1, at);
      await file.close();
    };
    return withMethods(device, { sync });
  };
  return withMethods(bench.disk, { openForWriting });
}
