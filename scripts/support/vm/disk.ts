import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type MachineDisk, type MachineOptions, makeDisk } from '../machine-disk.ts';
import { addEfiGrub, embedGrub } from './grub.ts';

/** The disk of a host that this firmware starts. `waitS`: how long GRUB shows its menu. */
export async function makeBootableDisk(
  options: MachineOptions,
  waitS: number,
  firmware: 'bios' | 'uefi' = 'bios',
): Promise<MachineDisk> {
  const bootFolder = join(options.folder, 'vm-boot');
  await cp(options.bootFolder, bootFolder, { recursive: true });
  // The settings of an operator who watches the host over a serial line.
  const layout = `set qx_serial=1\nset qx_timeout=${waitS}\nset qx_extra="console=ttyS0,115200"\n`;
  await writeFile(join(bootFolder, 'grub/quantix-layout.cfg'), layout);
  if (firmware === 'uefi') {
    await addEfiGrub(bootFolder);
    return makeDisk({ ...options, bootFolder, bootFormat: 'fat' });
  }
  const machine = await makeDisk({ ...options, bootFolder });
  await embedGrub(machine, options.folder);
  return machine;
}
