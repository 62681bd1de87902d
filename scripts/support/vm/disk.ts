import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type MachineDisk, type MachineOptions, makeDisk, putFile } from '../machine-disk.ts';
import { addEfiGrub, embedGrub } from './grub.ts';

const LAYOUT = 'grub/quantix-layout.cfg';

/** The settings of an operator who watches the host over a serial line. `waitS`: how long GRUB shows its menu. */
const serialLine = (waitS: number): string =>
  `set qx_serial=1\nset qx_timeout=${waitS}\nset qx_extra="console=ttyS0,115200"\n`;

/** The disk of a host that this firmware starts. */
export async function makeBootableDisk(
  options: MachineOptions,
  waitS: number,
  firmware: 'bios' | 'uefi' = 'bios',
): Promise<MachineDisk> {
  const bootFolder = join(options.folder, 'vm-boot');
  await cp(options.bootFolder, bootFolder, { recursive: true });
  await writeFile(join(bootFolder, LAYOUT), serialLine(waitS));
  if (firmware === 'uefi') {
    await addEfiGrub(bootFolder);
    return makeDisk({ ...options, bootFolder, bootFormat: 'fat' });
  }
  const machine = await makeDisk({ ...options, bootFolder });
  await embedGrub(machine, options.folder);
  return machine;
}

/** A BIOS starts the disk from now on that only namespaces started so far. */
export async function becomeBootable(machine: MachineDisk, folder: string): Promise<void> {
  const layout = join(folder, 'serial-line');
  await writeFile(layout, serialLine(0));
  await putFile(machine, machine.partitions.boot, layout, LAYOUT);
  await embedGrub(machine, folder);
}
