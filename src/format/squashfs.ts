import { QxError } from '../errors.ts';

/** The superblock of a squashfs 4.0 image: its first 96 bytes, little-endian. */

const SQUASHFS_SUPERBLOCK_BYTES = 96;
const MAGIC = 0x73717368;
const COMPRESSORS = { 1: 'gzip', 2: 'lzma', 3: 'lzo', 4: 'xz', 5: 'lz4', 6: 'zstd' } as const;

export type Compressor = (typeof COMPRESSORS)[keyof typeof COMPRESSORS];

export interface Squashfs {
  readonly compressor: Compressor;
  readonly blockBytes: number;
  /** Where the file system ends; an image file is usually padded beyond it. */
  readonly usedBytes: number;
}

/** What an image boots by; by these names only: whatever else lies in its /boot need not be able to find a Quantix-OS root. */
export const BOOT_FILES = ['/boot/vmlinuz', '/boot/initramfs'] as const;

/** Null when it is no squashfs 4.0, or one that contradicts itself. */
export function readSquashfs(start: Uint8Array): Squashfs | null {
  if (start.length < SQUASHFS_SUPERBLOCK_BYTES) return null;
  const view = new DataView(start.buffer, start.byteOffset, SQUASHFS_SUPERBLOCK_BYTES);
  const u16 = (at: number) => view.getUint16(at, true);
  const u64 = (at: number) => Number(view.getBigUint64(at, true));
  if (view.getUint32(0, true) !== MAGIC || u16(28) !== 4 || u16(30) !== 0) return null;

  const compressor = COMPRESSORS[u16(20) as keyof typeof COMPRESSORS];
  const blockBytes = view.getUint32(12, true);
  const blockLog = u16(22);
  const usedBytes = u64(40);
  // The kernel refuses other block sizes too: 4 KiB to 1 MiB, told twice.
  const isBlockSize = blockLog >= 12 && blockLog <= 20 && blockBytes === 2 ** blockLog;
  const isInside = (at: number) => at >= SQUASHFS_SUPERBLOCK_BYTES && at < usedBytes;
  const [inodeTable, directoryTable] = [u64(64), u64(72)];
  if (compressor === undefined || !isBlockSize || !Number.isSafeInteger(usedBytes)) return null;
  if (!isInside(inodeTable) || !isInside(directoryTable) || inodeTable > directoryTable) return null;
  return { compressor, blockBytes, usedBytes };
}

/** @throws QxError IMAGE_UNBOOTABLE when this is no squashfs, or one of which a part is missing */
export function expectSquashfs(start: Uint8Array, imageBytes: number): Squashfs {
  const image = readSquashfs(start);
  if (image === null) {
    const next = 'publish the image as mksquashfs made it, not packed or compressed again';
    throw new QxError('IMAGE_UNBOOTABLE', 'the image is not a squashfs 4.0 file system', { next });
  }
  if (image.usedBytes <= imageBytes) return image;
  const detail = `the image has ${imageBytes} bytes, its file system needs ${image.usedBytes}`;
  throw new QxError('IMAGE_UNBOOTABLE', detail, { next: 'publish the whole image' });
}

/** What GRUB makes of a bare image on a slot (2.06, tried): it reads these, and only of xz does it notice damage. */
const GRUB_READS: Readonly<Record<Compressor, 'checked' | 'unchecked' | null>> = {
  xz: 'checked',
  gzip: 'unchecked',
  lzo: 'unchecked',
  lzma: null,
  lz4: null,
  zstd: null,
};

/**
 * Null, or a warning. gzip and lzo are let through: every byte is read back before the first boot, so what GRUB does not
 * notice is only damage that comes later, and hosts are out there whose images have always been gzip.
 * @throws QxError IMAGE_UNBOOTABLE when GRUB would not find a kernel in it
 */
export function grubWarning({ compressor }: Squashfs): string | null {
  const reads = GRUB_READS[compressor];
  if (reads === 'checked') return null;
  if (reads === 'unchecked') return `GRUB reads ${compressor} but does not notice damage in it; xz is checked`;
  throw new QxError('IMAGE_UNBOOTABLE', `GRUB cannot read a squashfs compressed by ${compressor} from a bare slot`, {
    next: 'make the image with mksquashfs -comp xz, or use slot_layout: filesystem',
  });
}
