import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { GRUB_PARTITION, type MachineDisk } from '../machine-disk.ts';

/** Makes a disk bootable as `grub-install` would, without a loop device: the places are known. */

const GRUB = '/usr/lib/grub/i386-pc';
export const GRUB_FILES = { [join(GRUB, 'boot.img')]: 'scripts/vm-packages.sh' } as const;

const SECTOR_BYTES = 512;

// All that grub.cfg uses, so that the boot partition needs no folder of modules.
const MODULES =
  'part_gpt ext2 squash4 xzio gzio normal configfile linux loadenv test regexp probe serial terminal echo sleep reboot search testspeed'.split(
    ' ',
  );
/** The second one can start a watchdog of the machine, from quantix-layout.cfg. */
const BIOS_MODULES = ['biosdisk', 'iorw'];
/** Without a drive before the comma: the one that the firmware booted from. */
const PREFIX = '(,gpt1)/grub';

/** The boot sector's own code ends where the partition table of old begins. */
const BOOT_CODE_BYTES = 440;
/** In boot.img: the sector of the core image, and the jump that makes it believe the BIOS about the drive. */
const AT = { coreSector: 0x5c, driveCheck: 0x66 } as const;

/** The first sector of the core image ends with where the rest of it is: sector (8 bytes), sectors (2), segment (2). */
const REST_AT = SECTOR_BYTES - 12;

export async function embedGrub({ disk }: MachineDisk, folder: string): Promise<void> {
  const coreFile = join(folder, 'core.img');
  await execa('grub-mkimage', ['-O', 'i386-pc', '-p', PREFIX, '-o', coreFile, ...BIOS_MODULES, ...MODULES]);
  const core = await readFile(coreFile);
  const sectors = Math.ceil(core.length / SECTOR_BYTES);
  if (sectors > GRUB_PARTITION.sizeSectors) throw new Error(`${coreFile} is too large: ${sectors} sectors`);
  core.writeBigUInt64LE(BigInt(GRUB_PARTITION.startSector + 1), REST_AT);
  core.writeUInt16LE(sectors - 1, REST_AT + 8);
  const boot = await readFile(join(GRUB, 'boot.img'));
  boot.writeBigUInt64LE(BigInt(GRUB_PARTITION.startSector), AT.coreSector);
  boot.writeUInt16LE(NOP_NOP, AT.driveCheck);
  const file = await open(disk, 'r+');
  try {
    await file.write(boot, 0, BOOT_CODE_BYTES, 0);
    await file.write(core, 0, core.length, GRUB_PARTITION.startSector * SECTOR_BYTES);
  } finally {
    await file.close();
  }
}

const NOP_NOP = 0x9090;

export const EFI_GRUB_FILES = { '/usr/lib/grub/x86_64-efi/moddep.lst': 'scripts/vm-packages.sh' } as const;

/** Where a UEFI looks that was told nothing. */
export async function addEfiGrub(bootFolder: string): Promise<void> {
  const folder = join(bootFolder, 'EFI/BOOT');
  await mkdir(folder, { recursive: true });
  await execa('grub-mkimage', ['-O', 'x86_64-efi', '-p', PREFIX, '-o', join(folder, 'BOOTX64.EFI'), 'fat', ...MODULES]);
}
