import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { blockFile } from '../../scripts/support/grub-emu.ts';
import { copyOut, type MachineDisk, MIB, type Partition } from '../../scripts/support/machine-disk.ts';
import { temporaryFolder } from '../support/temp.ts';

/** What becomes of a disk while its host is switched off. */

export type Damage = (machine: MachineDisk) => Promise<void>;

const startOf = ({ startMib }: Partition): number => startMib * MIB;

async function onDisk<T>(disk: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(disk, 'r+');
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Writes to slot B, from a byte of it on. */
export const inSlot =
  (bytes: Uint8Array, from = 0): Damage =>
  ({ disk, partitions }) =>
    onDisk(disk, async (file) => void (await file.write(bytes, 0, bytes.length, startOf(partitions.B) + from)));

/** One bit of slot B. */
export const flipped =
  (at: number): Damage =>
  ({ disk, partitions }) =>
    onDisk(disk, async (file) => {
      const byte = Buffer.alloc(1);
      await file.read(byte, 0, 1, startOf(partitions.B) + at);
      byte.writeUInt8(byte.readUInt8() ^ 0x10);
      await file.write(byte, 0, 1, startOf(partitions.B) + at);
    });

async function copyIn({ disk }: MachineDisk, partition: Partition, from: string): Promise<void> {
  const seek = [`seek=${startOf(partition)}`, 'oflag=seek_bytes'];
  await execa('dd', [`if=${from}`, `of=${disk}`, 'bs=1M', 'conv=notrunc', 'status=none', ...seek]);
}

/** Another image in slot B than the one that was verified. */
export const imageInSlot =
  (image: string): Damage =>
  (machine) =>
    copyIn(machine, machine.partitions.B, image);

/** Changes a partition in a file of its own, once the journal of its file system was replayed. */
async function changed(
  machine: MachineDisk,
  name: 'boot' | 'config',
  change: (image: string) => Promise<unknown>,
): Promise<void> {
  const partition = machine.partitions[name];
  const image = join(await temporaryFolder(), name);
  await copyOut(machine, partition, partition.sizeMib * MIB, image);
  await execa('e2fsck', ['-p', image], { reject: false });
  await change(image);
  await copyIn(machine, partition, image);
}

async function rewrite(image: string, path: string, change: (text: string) => string): Promise<void> {
  const file = join(await temporaryFolder(), 'text');
  await execa('debugfs', ['-R', `dump ${path} ${file}`, image]);
  await writeFile(file, change(await readFile(file, 'utf8')));
  await execa('debugfs', ['-w', '-f', '-', image], { input: `rm ${path}\nwrite ${file} ${path}\n` });
}

/** Of /quantix/limiquantix/node.yaml. */
export const nodeSettings =
  (change: (yaml: string) => string): Damage =>
  (machine) =>
    changed(machine, 'config', (image) => rewrite(image, '/limiquantix/node.yaml', change));

/** Lines of /quantix/limiquantix/quantix-boot. */
export const bootSettings =
  (lines: string): Damage =>
  (machine) =>
    changed(machine, 'config', (image) => rewrite(image, '/limiquantix/quantix-boot', () => lines));

/** More lines for what GRUB reads of its host. */
export const layout =
  (lines: string): Damage =>
  (machine) =>
    changed(machine, 'boot', (image) => rewrite(image, '/grub/quantix-layout.cfg', (text) => text + lines));

export const COPIES = ['grubenv', 'grubenv.bak'] as const;
type Copy = (typeof COPIES)[number];

/** Other bytes in the place of copies of the boot environment. */
export const copies =
  (names: readonly Copy[], change: (block: Uint8Array) => Uint8Array): Damage =>
  (machine) =>
    changed(machine, 'boot', async (image) => {
      for (const name of names) {
        const file = await blockFile(image, `/grub/${name}`);
        await file.write(change(await file.read()));
      }
    });

/** Files that end too early in their place. */
export const shortCopies =
  (names: readonly Copy[]): Damage =>
  (machine) =>
    changed(machine, 'boot', async (image) => {
      for (const name of names) await rewrite(image, `/grub/${name}`, (text) => text.slice(0, 60));
    });

/** Nothing that is a file system is left of the data partition. */
export const withoutData: Damage = ({ disk, partitions }) =>
  onDisk(disk, async (file) => void (await file.write(Buffer.alloc(MIB), 0, MIB, startOf(partitions.data))));
