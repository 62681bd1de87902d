import { copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { freshState } from '../../src/core/boot.ts';
import { encodeBoot } from '../../src/format/grubenv.ts';
import { hostDisks } from '../../src/system/disk/partitions.ts';
import { addAttributes, addBlock, addDisk, mount } from '../support/disk-tree.ts';
import { LOOP_REQUIREMENTS, loopDevice, mountReadOnly } from '../support/loop.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const [ID_1, ID_2] = ['11111111-2222-4333-8444-555555555551', '11111111-2222-4333-8444-555555555552'];

requires({ commands: ['sfdisk', 'mke2fs'] })('the disks of a host', () => {
  test('a folder has none', async () => {
    expect(await hostDisks(await temporaryFolder()).look()).toBeNull();
  });

  test('their partitions by id and label, and the one that /boot lies on', async () => {
    const root = await temporaryFolder();
    await addDisk(root, 'sda', 8, [{ label: 'QUANTIX-BOOT', uuid: ID_1 }, { uuid: ID_2 }]);
    await mount(root, [
      ['/', '0:20'],
      ['/boot', '8:2'],
      ['/boot', '8:1'],
      ['/data', '8:2'],
    ]);
    expect(await hostDisks(root).look()).toEqual({
      partitions: [
        { device: '/dev/sda1', disk: '/dev/sda', uuid: ID_1, label: 'QUANTIX-BOOT', systemLabel: null },
        { device: '/dev/sda2', disk: '/dev/sda', uuid: ID_2, label: null, systemLabel: null },
      ],
      boot: '/dev/sda1',
    });
  });

  test('where /boot is part of what holds everything, it lies on no partition', async () => {
    const root = await temporaryFolder();
    await addDisk(root, 'sda', 8, [{ uuid: ID_1 }]);
    await mount(root, [
      ['/', '0:20', 'overlay'],
      ['/boots', '8:1'],
    ]);
    expect((await hostDisks(root).look())?.boot).toBeNull();
  });

  test('a file system of several devices is found by what was mounted', async () => {
    const root = await temporaryFolder();
    await addDisk(root, 'sda', 8, [{ uuid: ID_1 }]);
    await mount(root, [
      ['/', '0:20'],
      ['/boot', '0:33', '/dev/sda1'],
    ]);
    expect((await hostDisks(root).look())?.boot).toBe(join(root, 'dev/sda1'));
  });

  test('of a stick without partitions, the label of its file system', async () => {
    const root = await temporaryFolder();
    await writeFile(join(root, 'stick'), new Uint8Array(1 << 20));
    await execa('mke2fs', ['-q', '-F', '-t', 'ext4', '-L', 'QUANTIX-B', join(root, 'stick')]);
    await addBlock(root, 'sys/devices/usb/block/sdb', { dev: '8:16', size: '2048' });
    await addDisk(root, 'sda', 8, [{ uuid: ID_1 }]);
    await symlink('../stick', join(root, 'dev/sdb'));
    expect((await hostDisks(root).look())?.partitions).toMatchObject([
      { device: '/dev/sda1' },
      { device: '/dev/sdb', disk: '/dev/sdb', uuid: null, systemLabel: 'QUANTIX-B' },
    ]);
  });

  test('what a guest writes to its own disk says nothing: a volume of device-mapper is not read', async () => {
    const root = await temporaryFolder();
    await addDisk(root, 'sda', 8, [{ uuid: ID_1 }]);
    await addBlock(root, 'sys/devices/virtual/block/dm-4', { dev: '253:4', size: '2048', 'dm/uuid': 'LVM-guest' });
    await writeFile(join(root, 'dev/dm-4'), new Uint8Array(1 << 20));
    await execa('mke2fs', ['-q', '-F', '-t', 'ext4', '-L', 'QUANTIX-B', join(root, 'dev/dm-4')]);
    expect((await hostDisks(root).look())?.partitions.find(({ device }) => device === '/dev/dm-4')).toMatchObject({
      systemLabel: null,
    });
  });

  test('two paths to one disk are one: what device-mapper made of them counts', async () => {
    const root = await temporaryFolder();
    for (const [i, name] of ['sda', 'sdb'].entries()) {
      await addDisk(root, name, 8 + i, [{ label: 'QUANTIX-A', uuid: ID_1 }]);
      await addAttributes(root, `sys/devices/pci/block/${name}`, { 'holders/dm-0/dev': '253:0' });
    }
    await addBlock(root, 'sys/devices/virtual/block/dm-0', { dev: '253:0', size: '4096', 'dm/uuid': 'mpath-1' });
    const part = { dev: '253:1', size: '2048', 'dm/uuid': 'part1-mpath-1', 'slaves/dm-0/dev': '253:0' };
    await addBlock(root, 'sys/devices/virtual/block/dm-1', part);
    await copyFile(join(root, 'dev/sda'), join(root, 'dev/dm-0'));
    await writeFile(join(root, 'dev/dm-1'), new Uint8Array(4096));
    expect((await hostDisks(root).look())?.partitions).toEqual([
      { device: '/dev/dm-1', disk: '/dev/dm-0', uuid: ID_1, label: 'QUANTIX-A', systemLabel: null },
    ]);
  });

  test('a RAID of partitions stands for each of them', async () => {
    const root = await temporaryFolder();
    for (const [i, name] of ['sda', 'sdb'].entries()) {
      await addDisk(root, name, 8 + i, [{ label: 'QUANTIX-A', uuid: i === 0 ? ID_1 : ID_2 }]);
      await addAttributes(root, `sys/devices/pci/block/${name}/${name}1`, { 'holders/md0/dev': '9:0' });
    }
    await addBlock(root, 'sys/devices/virtual/block/md0', { dev: '9:0', size: '2048', 'md/level': 'raid1' });
    await mount(root, [['/boot', '9:0']]);
    expect(await hostDisks(root).look()).toMatchObject({
      partitions: [
        { device: '/dev/md0', disk: '/dev/sda', uuid: ID_1 },
        { device: '/dev/md0', disk: '/dev/sdb', uuid: ID_2 },
      ],
      boot: '/dev/md0',
    });
  });

  test('a disk that cannot be read has partitions without ids', async () => {
    const root = await temporaryFolder();
    await addDisk(root, 'sda', 8, [{ uuid: ID_1 }]);
    await rm(join(root, 'dev/sda'));
    expect((await hostDisks(root).look())?.partitions).toMatchObject([
      { device: '/dev/sda1', uuid: null, label: null },
    ]);
  });

  test('names lead to what they lead to, also through links, and nowhere where there is nothing', async () => {
    const root = await temporaryFolder();
    await addDisk(root, 'sda', 8, [{ uuid: ID_1 }]);
    await symlink('sda1', join(root, 'dev/slot-a'));
    const disks = hostDisks(root);
    expect([await disks.resolve('/dev/slot-a'), await disks.resolve('/dev/slot-b')]).toEqual(['/dev/sda1', null]);
  });

  test('every environment on a partition is found, also one that lies across two pieces', async () => {
    const root = await temporaryFolder();
    const bytes = new Uint8Array(3 << 20);
    const block = encodeBoot(freshState('B'));
    for (const at of [4096, (1 << 20) - 512, (3 << 20) - 4096]) bytes.set(block, at);
    await addDisk(root, 'sda', 8, [{ uuid: ID_1, bytes }]);
    const found = await hostDisks(root).environmentsOn('/dev/sda1');
    expect(found).toEqual([block, block, block]);
  });
});

requires({ ...LOOP_REQUIREMENTS, commands: ['losetup', 'mke2fs', 'mount'] })('a device that is in use', () => {
  test('is told from one that is not', async () => {
    const folder = await temporaryFolder();
    const device = await loopDevice(join(folder, 'disk'), 1 << 20);
    await execa('mke2fs', ['-q', '-t', 'ext4', device]);
    expect(await hostDisks('').isInUse(device)).toBe(false);
    await mkdir(join(folder, 'point'));
    await mountReadOnly(device, join(folder, 'point'), 'ext4');
    expect(await hostDisks('').isInUse(device)).toBe(true);
  });
});
