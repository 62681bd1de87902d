import type { Slot } from '../core/boot.ts';
import { QxError } from '../errors.ts';
import { LAYOUT_BYTES, layoutOf, readExt4 } from '../format/slot-layout.ts';
import type { Disk, Process, SlotDevice } from '../ports.ts';
import { deviceAt } from './disk/device.ts';
import { locateFile, makeExt4 } from './disk/ext4.ts';
import { diskReader } from './disk/reader.ts';
import { unsquash } from './disk/unsquash.ts';
import { versionInExt4, versionInSquashfs } from './disk/version.ts';
import { openDevice } from './disk/writer.ts';
import { hostPath } from './host-path.ts';

export interface DiskOptions {
  readonly root: string;
  /** Host path of a slot's device, such as /dev/disk/by-partlabel/QUANTIX-A; a plain file stands in for a device. */
  readonly slot: (slot: Slot) => Promise<string>;
  readonly process: Process;
}

export function hostDisk({ root, slot: pathOf, process }: DiskOptions): Disk {
  const at = (path: string): string => hostPath(root, path);
  const find = async (slot: Slot) => deviceAt(at(await pathOf(slot)));
  const present = async (slot: Slot): Promise<SlotDevice> => {
    const device = await find(slot);
    if (device === null)
      throw new QxError('SLOT_NOT_FOUND', `slot ${slot} has no device at ${at(await pathOf(slot))}`, {
        next: 'lsblk -o NAME,PARTLABEL,PARTUUID; updates.slots in node.yaml names the devices',
      });
    return device;
  };
  const reader = diskReader(process);
  return {
    device: find,
    openForWriting: async (slot) => openDevice(await present(slot)),
    hashRange: async (slot, offset, lengthBytes, options) =>
      reader.hash(await present(slot), [{ at: offset, lengthBytes }], options),
    readStart: async (slot, lengthBytes) => reader.start(await present(slot), lengthBytes),
    makeFileSystem: (image, fromDirectory, label, signal) =>
      makeExt4(process, { image: at(image), fromDirectory: at(fromDirectory), label, signal }),
    hashFileInSlot: async (slot, path, signal) => {
      const device = await present(slot);
      const ext4 = readExt4(await reader.start(device, LAYOUT_BYTES));
      if (ext4 === null) throw new QxError('READBACK_MISMATCH', `slot ${slot} holds no ext4 file system`);
      return reader.hash(device, await locateFile(process, device, ext4.blockBytes, path), { signal });
    },
    versionInImage: (image) => versionInSquashfs(process, at(image)),
    versionOnSlot: async (slot) => {
      const device = await find(slot);
      if (device === null) return null;
      const layout = layoutOf(await reader.start(device, LAYOUT_BYTES));
      if (layout === null) return null;
      return layout === 'raw' ? versionInSquashfs(process, device.path) : versionInExt4(process, device);
    },
    extractFromImage: (image, paths, toDirectory, signal) =>
      unsquash(process, at(image), paths, at(toDirectory), signal),
  };
}
