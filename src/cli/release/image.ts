import { KERNEL_HEAD_BYTES, kernelMachine } from '../../format/kernel.ts';
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
  { imageLayout: layout, version }: { readonly imageLayout: SlotLayout; readonly version: string },
): Promise<FullImage> {
  const superblock = expectSquashfs(await headOf(tools, path, LAYOUT_BYTES), sizeBytes);
  // Beside a file system the kernel lies as a file of its own, so GRUB never looks into the image.
  const warning = layout === 'raw' ? grubWarning(superblock) : null;
  if (warning !== null) output.note(`warning: ${warning}`);
  const doubt = await tools.inTemporaryDirectory((folder) => doubtOfKernel(tools, path, folder));
  if (doubt !== null) output.note(`warning: ${doubt}`);
  const own = await tools.imageVersion(path);
  // Hosts compare what runs with what the image says of itself, and show the version of the release.
  if (own !== null && own !== version)
    output.note(`warning: the image says that it is ${own}, and the release is ${version}`);
  return { artifact, sha256, size_bytes: sizeBytes, requires_reboot: true, target_slot: 'auto' };
}

/** What the executable of the hosts is built for: an image of another processor would start on none of them. */
const MACHINE = 'x86_64';

/** Null, or a warning. @throws QxError IMAGE_UNBOOTABLE when the image lacks a boot file */
async function doubtOfKernel(tools: ReleaseTools, path: string, folder: string): Promise<string | null> {
  if (!(await tools.unsquash(path, BOOT_FILES, folder)))
    return `no unsquashfs here, so nobody looked for ${BOOT_FILES.join(' and ')}`;
  const [kernel] = BOOT_FILES;
  const machine = kernelMachine(await headOf(tools, `${folder}${kernel}`, KERNEL_HEAD_BYTES));
  if (machine === MACHINE) return null;
  if (machine === null) return `${kernel} does not look like a Linux kernel`;
  return `${kernel} is for a processor of the kind ${machine}, and hosts are ${MACHINE}: GRUB would refuse it`;
}

async function headOf({ ranges, files }: ReleaseTools, path: string, wantedBytes: number): Promise<Uint8Array> {
  const sizeBytes = (await files.info(path))?.sizeBytes ?? 0;
  for await (const piece of await ranges.openRange(path, 0, Math.min(sizeBytes, wantedBytes))) return piece;
  return new Uint8Array();
}
