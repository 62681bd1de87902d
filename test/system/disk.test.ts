import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Disk, Process } from '../../src/ports.ts';
import { runsOf } from '../../src/system/disk/ext4.ts';
import { hostDisk } from '../../src/system/disk.ts';
import { hostProcess } from '../../src/system/process.ts';
import { grubFinds, IMAGE_COMMANDS, makeImage } from '../support/images.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const execute = promisify(execFile);
const MIB = 1 << 20;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Slots {
  readonly root: string;
  readonly disk: Disk;
  readonly slotA: string;
}

async function fileSlots(content: Uint8Array, process: Process = hostProcess()): Promise<Slots> {
  const root = await temporaryFolder();
  const slotA = join(root, 'slot-a');
  await writeFile(slotA, content);
  return { root, slotA, disk: hostDisk({ root, slot: async (slot) => `/slot-${slot.toLowerCase()}`, process }) };
}

describe('a plain file as a slot', () => {
  test('is told as what it is, and an absent one as absent', async () => {
    const { disk, slotA } = await fileSlots(new Uint8Array(5000));
    expect(await disk.device('A')).toEqual({ path: slotA, sizeBytes: 5000, kind: 'file', isMounted: false });
    expect(await disk.device('B')).toBeNull();
    await expect(disk.openForWriting('B')).rejects.toMatchObject({ code: 'SLOT_NOT_FOUND' });
    await expect(disk.readStart('B', 1)).rejects.toMatchObject({ code: 'SLOT_NOT_FOUND' });
  });

  test('is found through its link, so that two names of one device can be compared', async () => {
    const { disk, root, slotA } = await fileSlots(new Uint8Array(4096));
    await symlink('slot-a', join(root, 'slot-b'));
    expect((await disk.device('B'))?.path).toBe(slotA);
  });

  test('is refused when it is a folder', async () => {
    const { disk, root } = await fileSlots(new Uint8Array(1));
    await mkdir(join(root, 'slot-b'));
    await expect(disk.device('B')).rejects.toMatchObject({ code: 'SLOT_NOT_FOUND' });
  });

  test('keeps its size: a device would not grow either', async () => {
    const { disk, slotA } = await fileSlots(new Uint8Array(8192));
    const device = await disk.openForWriting('A');
    await device.write(4096, Buffer.alloc(4096, 1));
    await expect(device.write(4097, Buffer.alloc(4096, 2))).rejects.toMatchObject({ code: 'SLOT_TOO_SMALL' });
    await expect(device.write(-1, Buffer.alloc(1))).rejects.toMatchObject({ code: 'SLOT_TOO_SMALL' });
    await device.sync();
    await device.close();
    expect(await readFile(slotA)).toEqual(Buffer.concat([Buffer.alloc(4096), Buffer.alloc(4096, 1)]));
  });

  test.each([
    [0, 0],
    [0, 1],
    [0, 3 * MIB + 77],
    [1, 4095],
    [4095, 2],
    [MIB, 2 * MIB + 77],
    [MIB - 1, MIB + 2],
    [3 * MIB, 77],
    [12345, 1_234_567],
  ])('hashes bytes from %i, %i of them', async (offset, lengthBytes) => {
    const content = randomBytes(3 * MIB + 77);
    const { disk } = await fileSlots(content);
    expect(await disk.hashRange('A', offset, lengthBytes)).toBe(sha256(content.subarray(offset, offset + lengthBytes)));
  });

  test('has no bytes behind its end, and its start ends with it', async () => {
    const content = randomBytes(5000);
    const { disk } = await fileSlots(content);
    await expect(disk.hashRange('A', 0, 5001)).rejects.toMatchObject({ code: 'IO' });
    await expect(disk.hashRange('A', 9000, 1)).rejects.toMatchObject({ code: 'IO' });
    expect(Buffer.compare(await disk.readStart('A', 10_000), content)).toBe(0);
  });

  test('is not read on once that was cancelled', async () => {
    const { disk } = await fileSlots(randomBytes(4096));
    await expect(disk.hashRange('A', 0, 4096, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });
});

describe('where debugfs says that a file lies', () => {
  test.each([
    ['one block', '(0):5', 100, [[5 * 4096, 100]]],
    ['an extent', '(0-2):5-7', 3 * 4096, [[5 * 4096, 3 * 4096]]],
    [
      'a hole in the middle',
      '(0):5, (2):9',
      3 * 4096,
      [
        [5 * 4096, 4096],
        [null, 4096],
        [9 * 4096, 4096],
      ],
    ],
    [
      'holes at both ends',
      '(1):5',
      4 * 4096,
      [
        [null, 4096],
        [5 * 4096, 4096],
        [null, 8192],
      ],
    ],
    ['blocks of the tree itself', '(ETB0):77, (0-1):5-6', 8192, [[5 * 4096, 8192]]],
    ['blocks that were never written', '(0-1[u]):5-6', 8192, [[null, 8192]]],
    ['blocks kept behind the end', '(0-9):5-14', 5000, [[5 * 4096, 5000]]],
    ['nothing at all', '', 0, []],
    ['only a hole', '', 5000, [[null, 5000]]],
  ])('%s', (_, extents, sizeBytes, runs) => {
    expect(runsOf(`EXTENTS:\n${extents}\n`, 4096, sizeBytes)).toEqual(
      runs.map(([at, lengthBytes]) => ({ at, lengthBytes })),
    );
  });
});

requires({ commands: IMAGE_COMMANDS })('the file system of a slot', () => {
  async function made(): Promise<Slots & { tree: string }> {
    const slots = await fileSlots(new Uint8Array(0));
    const tree = join(slots.root, 'tree');
    await mkdir(join(tree, 'quantix'), { recursive: true });
    await mkdir(join(tree, 'boot'));
    const image = randomBytes(9 * MIB + 123);
    image.fill(0, 2 * MIB, 4 * MIB);
    await writeFile(join(tree, 'quantix/system.squashfs'), image);
    await writeFile(join(tree, 'quantix/empty'), '');
    await writeFile(join(tree, 'quantix/zeros'), new Uint8Array(9000));
    await writeFile(join(tree, 'boot/vmlinuz'), randomBytes(400_001));
    await slots.disk.makeFileSystem('/made', '/tree', 'QUANTIX-A');
    await writeFile(slots.slotA, await readFile(join(slots.root, 'made')));
    return { ...slots, tree };
  }

  test('holds exactly the files of the folder, for the agent, for GRUB and for fsck', async () => {
    const { disk, tree, slotA, root } = await made();
    for (const path of ['quantix/system.squashfs', 'quantix/empty', 'quantix/zeros', 'boot/vmlinuz']) {
      expect(await disk.hashFileInSlot('A', `/${path}`)).toBe(sha256(await readFile(join(tree, path))));
    }
    expect(await grubFinds(slotA, '/boot/vmlinuz', join(tree, 'boot/vmlinuz'))).toBe('same');
    expect(await grubFinds(slotA, '/quantix/system.squashfs', join(tree, 'quantix/system.squashfs'))).toBe('same');
    await execute('e2fsck', ['-f', '-n', slotA]);
    const { stdout } = await execute('e2label', [slotA]);
    expect(stdout.trim()).toBe('QUANTIX-A');
    expect((await stat(join(root, 'made'))).size).toBeLessThan(16 * MIB);
  });

  test('has no feature that GRUB 2.06 does not know, and no journal to replay', async () => {
    const { slotA } = await made();
    const { stdout } = await execute('dumpe2fs', ['-h', slotA]);
    const features = /^Filesystem features: +(.*)$/m.exec(stdout)?.[1]?.split(' ') ?? [];
    expect(features).toContain('metadata_csum');
    for (const unknown of ['has_journal', 'metadata_csum_seed', 'orphan_file', 'inline_data', '64bit']) {
      expect(features).not.toContain(unknown);
    }
  });

  test('tells a changed byte of a file on the slot', async () => {
    const { disk, slotA, tree } = await made();
    const bytes = await readFile(slotA);
    const at = bytes.indexOf((await readFile(join(tree, 'boot/vmlinuz'))).subarray(0, 64));
    expect(at).toBeGreaterThan(0);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(slotA, bytes);
    expect(await disk.hashFileInSlot('A', '/boot/vmlinuz')).not.toBe(
      sha256(await readFile(join(tree, 'boot/vmlinuz'))),
    );
  });

  test('says so when there is no such file, or no such file system', async () => {
    const { disk, slotA } = await made();
    const missing = { code: 'READBACK_MISMATCH' };
    await expect(disk.hashFileInSlot('A', '/boot/initramfs')).rejects.toMatchObject(missing);
    await expect(disk.hashFileInSlot('A', '/boot')).rejects.toMatchObject(missing);
    await expect(disk.hashFileInSlot('A', '/boot/"; quit')).rejects.toMatchObject({ code: 'IO' });
    await writeFile(slotA, new Uint8Array(8192));
    await expect(disk.hashFileInSlot('A', '/boot/vmlinuz')).rejects.toMatchObject(missing);
  });

  test('is never made over something that is there', async () => {
    const { disk, root } = await made();
    const before = await readFile(join(root, 'made'));
    await expect(disk.makeFileSystem('/made', '/tree', 'QUANTIX-A')).rejects.toMatchObject({ code: 'EEXIST' });
    expect(Buffer.compare(await readFile(join(root, 'made')), before)).toBe(0);
  });

  test.each([
    ['NO_SPACE', 'mke2fs: No space left on device while populating file system'],
    ['IO', 'mke2fs: Input/output error'],
  ])('reports %s when mke2fs fails by it', async (code, stderr) => {
    const failing: Process = { run: async () => ({ exitCode: 1, stdout: '', stderr: `Creating\n${stderr}\n` }) };
    const { disk, root } = await fileSlots(new Uint8Array(1), failing);
    await mkdir(join(root, 'tree'));
    const result = disk.makeFileSystem('/made', '/tree', 'L');
    await expect(result).rejects.toMatchObject({ code, message: expect.stringContaining(stderr) });
  });
});

requires({ commands: IMAGE_COMMANDS })('files out of an image', () => {
  const BOOT = ['/boot/vmlinuz', '/boot/initramfs'];

  async function imageIn(kind: 'regular' | 'links' | 'absolute' | 'none' | 'loop') {
    const slots = await fileSlots(new Uint8Array(1));
    const image = await makeImage(slots.root, 'os', { bootFiles: kind });
    await mkdir(join(slots.root, 'out'));
    return { ...slots, image, out: join(slots.root, 'out') };
  }

  test.each(['regular', 'links', 'absolute'] as const)(
    'defect 24: the image’s own boot files come out (%s)',
    async (kind) => {
      const { disk, image, out } = await imageIn(kind);
      await disk.extractFromImage('/os.squashfs', BOOT, '/out');
      expect(await readFile(join(out, 'boot/vmlinuz'))).toEqual(await readFile(image.kernel));
      expect(await readFile(join(out, 'boot/initramfs'))).toEqual(await readFile(image.initramfs));
      expect(await readdir(out)).toEqual(['boot']);
      expect((await readdir(join(out, 'boot'))).sort()).toEqual(['initramfs', 'vmlinuz']);
    },
  );

  test.each(['none', 'loop'] as const)('that are missing make the image unbootable (%s)', async (kind) => {
    const { disk, out } = await imageIn(kind);
    const result = disk.extractFromImage('/os.squashfs', BOOT, '/out');
    await expect(result).rejects.toMatchObject({ code: 'IMAGE_UNBOOTABLE', next: expect.stringContaining('vmlinuz') });
    expect(await readdir(out)).toEqual([]);
  });

  test('a folder in the place of the kernel is no kernel', async () => {
    const { disk } = await imageIn('regular');
    const result = disk.extractFromImage('/os.squashfs', ['/boot'], '/out');
    await expect(result).rejects.toMatchObject({ code: 'IMAGE_UNBOOTABLE' });
  });

  test('half an image and no image at all are unbootable', async () => {
    const { disk, image, root } = await imageIn('regular');
    await truncate(image.path, image.sizeBytes >> 1);
    await expect(disk.extractFromImage('/os.squashfs', BOOT, '/out')).rejects.toMatchObject({
      code: 'IMAGE_UNBOOTABLE',
    });
    await writeFile(join(root, 'os.squashfs'), randomBytes(10_000));
    await expect(disk.extractFromImage('/os.squashfs', BOOT, '/out')).rejects.toMatchObject({
      code: 'IMAGE_UNBOOTABLE',
    });
  });
});
