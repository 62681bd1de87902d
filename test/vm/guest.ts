import type { HostImageOptions } from '../../scripts/support/host-image.ts';
import { addGuest } from '../../scripts/support/vm/guest.ts';
import { makeInitramfs } from '../../scripts/support/vm/initramfs.ts';
import { debianKernel } from '../../scripts/support/vm/kernel.ts';
import { type ImageOf, journeyImages } from '../support/journey.ts';

/** Images that a virtual machine starts. */
export const vmImages = (options: Pick<HostImageOptions, 'init' | 'compression'> = {}): ImageOf =>
  journeyImages(async (folder) => {
    const kernel = await debianKernel();
    const initramfs = await makeInitramfs(folder, kernel);
    return { kernel: { vmlinuz: kernel.vmlinuz, initramfs }, change: addGuest, ...options };
  });
