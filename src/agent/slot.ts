import type { Slot } from '../core/boot.ts';
import { QxError } from '../errors.ts';
import type { Config } from '../format/config.ts';
import type { SlotLayout } from '../format/slot-layout.ts';
import { expectSquashfs, grubWarning } from '../format/squashfs.ts';
import type { Disks } from '../ports/disks.ts';
import type { Ranges } from '../ports/serving.ts';
import type { Boot, Disk, Files, Log, SlotDevice } from '../ports.ts';
import { slotPlaceTrouble } from './disks.ts';
import { PATHS, type Watch } from './host.ts';
import { makeFileSystemImage } from './slot/filesystem.ts';
import { detectLayout } from './slot/layout.ts';
import { writeMedium } from './slot/medium.ts';
import { type Content, type Piece, piecesOfFile } from './slot/pieces.ts';

/**
 * Where verified bytes become the inactive slot. Everything that can be refused is refused first, with nothing changed; then
 * the boot environment is told that the slot is not ok; only then is it written.
 */

interface Machine {
  readonly disk: Disk;
  readonly files: Files;
  readonly ranges: Ranges;
  readonly log: Log;
}

export interface SlotWrite {
  readonly slot: Slot;
  /** The slot this system runs from; null when it runs from none. */
  readonly running: Slot | null;
  readonly layout: SlotLayout;
  readonly version: string;
  readonly image: Content & { readonly artifact: string };
  readonly pieces: AsyncIterable<Piece>;
  /** Called after the last refusal and before the first write; the boot environment says "not ok" when it returns. */
  readonly invalidate: () => Promise<void>;
  readonly watch: Watch;
}

/** What install knows: the image as a staged file. */
export interface StagedWrite extends Pick<SlotWrite, 'slot' | 'version' | 'invalidate' | 'watch'> {
  readonly image: { readonly artifact: string; readonly sha256: string; readonly size_bytes: number };
  readonly path: string;
}

interface SlotHost extends Machine {
  readonly boot: Boot;
  readonly disks: Disks;
  readonly config: Pick<Config, 'slotLayout' | 'slots'>;
}

/** Answers how the image lies on the slot. @throws QxError like `writeSlot` */
export async function writeSlotFrom(host: SlotHost, { slot, image, path, ...rest }: StagedWrite): Promise<SlotLayout> {
  const { slot: running } = await host.boot.booted();
  const elsewhere = await slotPlaceTrouble(host, slot);
  if (elsewhere !== null) throw elsewhere;
  const layout = await detectLayout(host.disk, host.config.slotLayout, slot, running);
  const pieces = piecesOfFile(host.ranges, path, image.size_bytes);
  const content = { artifact: image.artifact, sha256: image.sha256, sizeBytes: image.size_bytes };
  await writeSlot(host, { slot, running, layout, image: content, pieces, ...rest });
  return layout;
}

/** @throws QxError SLOT_* | IMAGE_UNBOOTABLE | HASH_MISMATCH | SIZE_MISMATCH | READBACK_MISMATCH | NO_SPACE | CANCELLED */
export async function writeSlot(machine: Machine, write: SlotWrite): Promise<void> {
  const { slot, layout, image } = write;
  const device = await admitDevice(machine.disk, write);
  checkRoom(device, slot, image.sizeBytes);
  machine.log.info('slot_writing', { slot, device: device.path, layout, sha256: image.sha256 });
  await (layout === 'raw' ? writeRaw(machine, write, device) : writeFileSystem(machine, write, device));
  machine.log.info('slot_written', { slot, layout, sha256: image.sha256 });
}

async function writeRaw(machine: Machine, write: SlotWrite, device: SlotDevice): Promise<void> {
  const { slot, image, pieces } = write;
  const admit = (head: Uint8Array) => {
    const warning = grubWarning(expectSquashfs(head, image.sizeBytes));
    if (warning !== null) machine.log.warn('image_unchecked_by_grub', { slot, warning });
  };
  await writeMedium(machine, { ...common(write, device, image.sizeBytes), content: image, pieces, admit });
}

async function writeFileSystem(machine: Machine, write: SlotWrite, device: SlotDevice): Promise<void> {
  const { slot, version, image, pieces, watch } = write;
  const scratch = `${PATHS.scratch}/slot`;
  try {
    const request = { slot, version, content: image, pieces, scratch, ...signalOf(watch) };
    const made = await makeFileSystemImage(machine, request);
    checkRoom(device, slot, made.content.sizeBytes);
    // The file system is our own making: there is nothing to refuse in its first bytes.
    await writeMedium(machine, { ...common(write, device, made.content.sizeBytes), ...made, admit: () => undefined });
  } finally {
    // Emptied again before its next use; failing to do so now must not hide why the slot was refused.
    await machine.files.remove(scratch).catch((error: unknown) => {
      machine.log.warn('scratch_not_removed', { path: scratch, error: String(error) });
    });
  }
}

const common = ({ slot, layout, image, invalidate, watch }: SlotWrite, device: SlotDevice, totalBytes: number) => ({
  slot,
  slotBytes: device.sizeBytes,
  layout,
  invalidate,
  ...signalOf(watch),
  onWritten: (doneBytes: number) => watch.progress?.({ phase: 'writing', name: image.artifact, doneBytes, totalBytes }),
});

const signalOf = ({ signal }: Watch) => (signal === undefined ? {} : { signal });

async function admitDevice(disk: Disk, { slot, running }: SlotWrite): Promise<SlotDevice> {
  const device = await disk.device(slot);
  if (device === null) {
    const next = `give the partition the label QUANTIX-${slot}, or set slots in node.yaml`;
    throw new QxError('SLOT_NOT_FOUND', `slot ${slot} has no device`, { next });
  }
  const runningPath = running === null ? null : (await disk.device(running))?.path;
  // Also when two names lead to one device: overwriting the running system is the one thing that no other slot undoes.
  if (running === slot || runningPath === device.path) {
    throw new QxError('SLOT_RUNNING', `slot ${slot} is the one that this system runs from`);
  }
  if (device.isMounted) {
    throw new QxError('SLOT_RUNNING', `slot ${slot} (${device.path}) is mounted`, { next: 'unmount it first' });
  }
  return device;
}

function checkRoom(device: SlotDevice, slot: Slot, neededBytes: number): void {
  if (neededBytes <= device.sizeBytes) return;
  const detail = `slot ${slot} has ${device.sizeBytes} bytes, the image needs ${neededBytes}`;
  throw new QxError('SLOT_TOO_SMALL', detail, { next: 'enlarge the partition, or publish a smaller image' });
}
