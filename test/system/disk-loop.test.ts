import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import type { Disk } from '../../src/ports.ts';
import { hostDisk } from '../../src/system/disk.ts';
import { hostProcess } from '../../src/system/process.ts';
import { LOOP_REQUIREMENTS, loopDevice, mountReadOnly } from '../support/loop.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const execute = promisify(execFile);
const MIB = 1 << 20;
const SLOTS = { A: '/dev/disk/by-partlabel/QUANTIX-A', B: '/dev/disk/by-partlabel/QUANTIX-B' };
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface LoopSlot {
  readonly root: string;
  readonly disk: Disk;
  readonly device: string;
  readonly backing: string;
}

/** Slot A of a host in a folder, with its name under by-partlabel as udev makes it. */
async function loopSlot(sizeBytes: number, sectorBytes?: number): Promise<LoopSlot> {
  const root = await temporaryFolder();
  const backing = join(root, 'backing');
  const device = await loopDevice(backing, sizeBytes, sectorBytes);
  await mkdir(dirname(join(root, SLOTS.A)), { recursive: true });
  await symlink(device, join(root, SLOTS.A));
  return { root, backing, device, disk: hostDisk({ root, slot: async (slot) => SLOTS[slot], process: hostProcess() }) };
}

async function putOn(disk: Disk, content: Uint8Array): Promise<void> {
  const device = await disk.openForWriting('A');
  for (let at = 0; at < content.length; at += MIB) await device.write(at, content.subarray(at, at + MIB));
  await device.sync();
  await device.close();
}

async function flipByte(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  await file.write(Buffer.of((byte[0] ?? 0) ^ 1), 0, 1, at);
  await file.close();
}

requires({ ...LOOP_REQUIREMENTS, commands: ['losetup', 'mke2fs', 'mount', 'blockdev'] })('a block device', () => {
  test('is told as what it is', async () => {
    const { disk, device } = await loopSlot(3 * MIB);
    expect(await disk.device('A')).toEqual({ path: device, sizeBytes: 3 * MIB, kind: 'block', isMounted: false });
    expect(await disk.device('B')).toBeNull();
  });

  test('is written over its whole length and no byte further', async () => {
    const { disk, backing } = await loopSlot(35 * MIB + 512);
    const content = randomBytes(35 * MIB + 512);
    await putOn(disk, content);
    expect(sha256(await readFile(backing))).toBe(sha256(content));
    expect(await disk.hashRange('A', 0, content.length)).toBe(sha256(content));
    expect(await disk.hashRange('A', 35 * MIB - 1, 513)).toBe(sha256(content.subarray(35 * MIB - 1)));
    const device = await disk.openForWriting('A');
    await expect(device.write(35 * MIB, new Uint8Array(1024))).rejects.toMatchObject({ code: 'SLOT_TOO_SMALL' });
    await device.close();
  });

  test.each([
    ['with O_DIRECT', 512],
    // Blocks that no buffer of ours is aligned to: the cache is emptied instead.
    ['without O_DIRECT', 16384],
  ])('is read past the page cache, %s', async (_, sectorBytes) => {
    const { disk, backing, device } = await loopSlot(4 * MIB, sectorBytes);
    const content = randomBytes(4 * MIB);
    await putOn(disk, content);
    // Somebody who read the device keeps its pages in the cache; what is on the medium changes underneath.
    const reader = await open(device, 'r');
    onTestFinished(() => reader.close());
    await reader.read(Buffer.alloc(MIB), 0, MIB, 2 * MIB);
    await flipByte(backing, 2 * MIB + 5);
    const cached = await reader.read(Buffer.alloc(16), 0, 16, 2 * MIB);
    expect(cached.buffer, 'the page cache still has the old byte').toEqual(content.subarray(2 * MIB, 2 * MIB + 16));

    const changed = Buffer.from(content);
    changed[2 * MIB + 5] = (changed[2 * MIB + 5] ?? 0) ^ 1;
    expect(await disk.hashRange('A', 0, 4 * MIB)).toBe(sha256(changed));
    expect(Buffer.compare(await disk.readStart('A', 3 * MIB), changed.subarray(0, 3 * MIB))).toBe(0);
  });

  test('is opened by one writer only', async () => {
    const { disk } = await loopSlot(MIB);
    const first = await disk.openForWriting('A');
    await expect(disk.openForWriting('A')).rejects.toMatchObject({ code: 'SLOT_RUNNING' });
    await first.close();
    await (await disk.openForWriting('A')).close();
  });

  test('is known to be mounted, and then cannot be opened', async () => {
    const { disk, device, root } = await loopSlot(8 * MIB);
    await execute('mke2fs', ['-q', '-t', 'ext4', device]);
    await mkdir(join(root, 'mnt'));
    await mountReadOnly(device, join(root, 'mnt'), 'ext4');
    expect(await disk.device('A')).toMatchObject({ isMounted: true });
    await expect(disk.openForWriting('A')).rejects.toMatchObject({ code: 'SLOT_RUNNING' });
  });

  test('is known to be mounted through a loop device that lies over it', async () => {
    const { disk, device, root } = await loopSlot(8 * MIB);
    await execute('mke2fs', ['-q', '-t', 'ext4', device]);
    const { stdout } = await execute('losetup', ['--find', '--show', '--read-only', device]);
    onTestFinished(async () => void (await execute('losetup', ['--detach', stdout.trim()])));
    expect(await disk.device('A'), 'a loop alone is no mount').toMatchObject({ isMounted: false });
    await mkdir(join(root, 'mnt'));
    await mountReadOnly(stdout.trim(), join(root, 'mnt'), 'ext4');
    expect(await disk.device('A')).toMatchObject({ isMounted: true });
  });

  test('over a file makes the file itself count as mounted', async () => {
    const { backing, device, root } = await loopSlot(8 * MIB);
    const disk = hostDisk({ root: '', slot: async () => backing, process: hostProcess() });
    await execute('mke2fs', ['-q', '-t', 'ext4', device]);
    expect(await disk.device('A')).toMatchObject({ kind: 'file', isMounted: false });
    await mkdir(join(root, 'mnt'));
    await mountReadOnly(device, join(root, 'mnt'), 'ext4');
    expect(await disk.device('A')).toMatchObject({ kind: 'file', isMounted: true });
  });

  test('gives the hash of a file in its file system, from the medium', async () => {
    const { disk, root, backing } = await loopSlot(16 * MIB);
    await mkdir(join(root, 'tree'));
    const content = randomBytes(5 * MIB + 3);
    await writeFile(join(root, 'tree/file'), content);
    await disk.makeFileSystem('/made', '/tree', 'QUANTIX-A');
    const made = await readFile(join(root, 'made'));
    await putOn(disk, made);
    expect(await disk.hashFileInSlot('A', '/file')).toBe(sha256(content));
    await flipByte(backing, made.indexOf(content.subarray(MIB, MIB + 64)));
    expect(await disk.hashFileInSlot('A', '/file')).not.toBe(sha256(content));
  });
});
