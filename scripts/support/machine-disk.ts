import { mkdir, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

/** The disk of a host: a partition table as the installer of the system makes it, and what the partitions hold at first. */

export const DISK_COMMANDS = ['sfdisk', 'mke2fs', 'dd'] as const;
/** For a boot partition that a UEFI reads. */
export const FAT_COMMANDS = ['mformat', 'mcopy'] as const;

export const MIB = 1 << 20;

export interface Partition {
  readonly label: string;
  readonly startMib: number;
  readonly sizeMib: number;
}

export interface MachineDisk {
  readonly disk: string;
  readonly partitions: Readonly<Record<'boot' | 'A' | 'B' | 'config' | 'data', Partition>>;
}

export interface MachineOptions {
  /** An existing folder for the disk and all that belongs to it. */
  readonly folder: string;
  /** Written to slot A as the installer of the system would: a squashfs, or the ext4 of an older layout. */
  readonly image: string;
  /** What the boot partition holds: the folder `grub` that install-host.sh made. */
  readonly bootFolder: string;
  /** FAT is what a UEFI reads; ext4 without it. */
  readonly bootFormat?: 'ext4' | 'fat';
  /** What /quantix holds at first; nothing without it. */
  readonly configFolder?: string;
  readonly slotMib: number;
  readonly dataMib: number;
}

/** Where GRUB's core image goes on a machine with a BIOS: between the partition table and the first whole mebibyte. */
export const GRUB_PARTITION = { startSector: 40, sizeSectors: 2008 } as const;
const GRUB_TYPE = '21686148-6449-6E6F-744E-656564454649';
const EFI_TYPE = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B';

export async function makeDisk(options: MachineOptions): Promise<MachineDisk> {
  const disk = join(options.folder, 'disk.img');
  const partitions = layOut(options);
  await writeFile(disk, '');
  await truncate(disk, endOf(partitions.data) * MIB + MIB);
  const isFat = options.bootFormat === 'fat';
  await execa('sfdisk', ['--quiet', disk], { input: partitionTable(Object.values(partitions), isFat) });
  await (isFat ? makeFat : makeFileSystem)(disk, partitions.boot, options.bootFolder);
  const empty = join(options.folder, 'empty');
  await mkdir(empty);
  await makeFileSystem(disk, partitions.config, options.configFolder ?? empty);
  await makeFileSystem(disk, partitions.data, empty);
  const seek = `seek=${partitions.A.startMib}`;
  await execa('dd', [`if=${options.image}`, `of=${disk}`, 'bs=1M', seek, 'conv=notrunc,sparse', 'status=none']);
  return { disk, partitions };
}

const endOf = ({ startMib, sizeMib }: Partition): number => startMib + sizeMib;

function layOut({ slotMib, dataMib }: MachineOptions): MachineDisk['partitions'] {
  const boot = { label: 'QUANTIX-BOOT', startMib: 1, sizeMib: 32 };
  const A = { label: 'QUANTIX-A', startMib: endOf(boot), sizeMib: slotMib };
  const B = { label: 'QUANTIX-B', startMib: endOf(A), sizeMib: slotMib };
  const config = { label: 'QUANTIX-CFG', startMib: endOf(B), sizeMib: 16 };
  return { boot, A, B, config, data: { label: 'QUANTIX-DATA', startMib: endOf(config), sizeMib: dataMib } };
}

// The one for GRUB comes last, so that the slots are gpt2 and gpt3, where grub.cfg looks by itself.
const partitionTable = (partitions: readonly Partition[], hasEfi: boolean): string =>
  [
    'label: gpt',
    'first-lba: 34',
    ...partitions.map(({ label, startMib, sizeMib }) => {
      const type = hasEfi && label === 'QUANTIX-BOOT' ? `, type=${EFI_TYPE}` : '';
      return `start=${startMib}MiB, size=${sizeMib}MiB, name=${label}${type}`;
    }),
    `start=${GRUB_PARTITION.startSector}, size=${GRUB_PARTITION.sizeSectors}, type=${GRUB_TYPE}, name=QUANTIX-GRUB`,
    '',
  ].join('\n');

async function makeFileSystem(disk: string, { label, startMib, sizeMib }: Partition, folder: string): Promise<void> {
  const options = ['-q', '-F', '-t', 'ext4', '-b', '4096', '-m', '0', '-L', label, '-d', folder];
  await execa('mke2fs', [...options, '-E', `offset=${startMib * MIB}`, disk, `${sizeMib}M`]);
}

async function makeFat(disk: string, { startMib, sizeMib }: Partition, folder: string): Promise<void> {
  const image = `${disk}@@${startMib}M`;
  await execa('mformat', [
    '-i',
    image,
    '-T',
    String(sizeMib * SECTORS_PER_MIB),
    '-h',
    '64',
    '-s',
    '32',
    '-v',
    'QX-BOOT',
    '::',
  ]);
  const names = await readdir(folder);
  await execa('mcopy', ['-s', '-Q', '-i', image, ...names.map((name) => join(folder, name)), '::']);
}

const SECTORS_PER_MIB = 2048;

/** Copies a file of ours into a file system that is an ext4. */
export async function putFile({ disk }: MachineDisk, { startMib }: Partition, from: string, to: string): Promise<void> {
  await execa('debugfs', ['-w', '-f', '-', `${disk}?offset=${startMib * MIB}`], { input: `write ${from} ${to}\n` });
}

/** The bytes of a partition from its start, as the disk has them. */
export async function copyOut(
  machine: MachineDisk,
  partition: Partition,
  sizeBytes: number,
  to: string,
): Promise<void> {
  const skip = `skip=${partition.startMib * MIB}`;
  const flags = ['iflag=skip_bytes,count_bytes', `count=${sizeBytes}`, 'bs=1M', 'status=none'];
  await execa('dd', [`if=${machine.disk}`, `of=${to}`, skip, ...flags]);
}
