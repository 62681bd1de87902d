import { readSquashfs } from './squashfs.ts';

/** What lies on a slot, told by its first bytes: `raw` is a bare squashfs, `filesystem` an ext4 that holds one. */
export type SlotLayout = 'raw' | 'filesystem';

const EXT_SUPERBLOCK_AT = 1024;
const EXT_MAGIC_AT = EXT_SUPERBLOCK_AT + 56;
const EXT_MAGIC = 0xef53;
const MAX_BLOCK_LOG = 6;

/** The bytes without which neither GRUB nor the kernel finds a file system there. */
export const MAGIC_AT: Readonly<Record<SlotLayout, { readonly at: number; readonly lengthBytes: number }>> = {
  raw: { at: 0, lengthBytes: 4 },
  filesystem: { at: EXT_MAGIC_AT, lengthBytes: 2 },
};

/** Enough to know either layout. */
export const LAYOUT_BYTES = 4096;

export interface Ext4 {
  readonly blockBytes: number;
}

/** Null when there is no ext2, ext3 or ext4. */
export function readExt4(start: Uint8Array): Ext4 | null {
  if (start.length < EXT_MAGIC_AT + 2) return null;
  const view = new DataView(start.buffer, start.byteOffset + EXT_SUPERBLOCK_AT);
  const blockLog = view.getUint32(24, true);
  if (view.getUint16(56, true) !== EXT_MAGIC || blockLog > MAX_BLOCK_LOG) return null;
  return { blockBytes: 1024 << blockLog };
}

const EXT_LABEL_AT = EXT_SUPERBLOCK_AT + 120;
const EXT_LABEL_BYTES = 16;

/** The label of an ext2, ext3 or ext4; null where there is none. */
export function ext4Label(start: Uint8Array): string | null {
  if (layoutOf(start) !== 'filesystem') return null;
  const field = start.subarray(EXT_LABEL_AT, EXT_LABEL_AT + EXT_LABEL_BYTES);
  const end = field.indexOf(0);
  return String.fromCharCode(...(end < 0 ? field : field.subarray(0, end))) || null;
}

/** Null for an empty slot and for anything that is neither. */
export function layoutOf(start: Uint8Array): SlotLayout | null {
  // A bare image may hold the ext4 magic by chance at its offset, an ext4 never holds the other one: bytes 0 to 1023 are zero.
  if (readSquashfs(start) !== null) return 'raw';
  return readExt4(start) === null ? null : 'filesystem';
}
