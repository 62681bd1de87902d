import type { Slot } from '../../core/boot.ts';
import type { Disks } from '../../ports/disks.ts';
import type { Boot } from '../../ports.ts';
import { grubsDevice } from '../disks.ts';

/** Where a slot lies: on the partition that GRUB starts it from, and under its configured name only where GRUB names none. */
export const slotFinder =
  (machine: { readonly boot: Boot; readonly disks: Disks }, configured: Readonly<Record<Slot, string>>) =>
  async (slot: Slot): Promise<string> =>
    (await grubsDevice(machine, slot)) ?? configured[slot];
