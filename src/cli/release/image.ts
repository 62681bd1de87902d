import type { FullImage } from '../../format/manifest.ts';
import { LAYOUT_BYTES, type SlotLayout } from '../../format/slot-layout.ts';
import { BOOT_FILES, expectSquashfs, grubWarning } from '../../format/squashfs.ts';
import type { Output } from '../verb.ts';
import type { ReleaseTools } from './tools.ts';

/** A system image, refused on the desk where every host would refuse it, or where GRUB would find no kernel in it. */

interface ImageFile {
  readonly path: string;
  readonly artifact: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** @throws QxError IMAGE_UNBOOTABLE */
export async function imageOf(
  tools: ReleaseTools,
  output: Output,
  { path, artifact, sha256, sizeBytes }: ImageFile,
  layout: SlotLayout,
): Promise<FullImage> {
  const superblock = expectSquashfs(await headOf(tools, path, sizeBytes), sizeBytes);
  // Beside a file system the kernel lies as a file of its own, so GRUB never looks into the image.
  const warning = layout === 'raw' ? grubWarning(superblock) : null;
  if (warning !== null) output.note(`warning: ${warning}`);
  const isLookedInto = await tools.inTemporaryDirectory((folder) => tools.unsquash(path, BOOT_FILES, folder));
  if (!isLookedInto) output.note(`warning: no unsquashfs here, so nobody looked for ${BOOT_FILES.join(' and ')}`);
  return { artifact, sha256, size_bytes: sizeBytes, requires_reboot: true, target_slot: 'auto' };
}

async function headOf({ ranges }: ReleaseTools, path: string, sizeBytes: number): Promise<Uint8Array> {
  for await (const piece of await ranges.openRange(path, 0, Math.min(sizeBytes, LAYOUT_BYTES))) return piece;
  return new Uint8Array();
}
