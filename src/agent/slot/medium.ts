import type { Slot } from '../../core/boot.ts';
import { QxError } from '../../errors.ts';
import { MAGIC_AT, type SlotLayout } from '../../format/slot-layout.ts';
import type { Disk, Log, OpenDevice } from '../../ports.ts';
import { type Content, type Piece, verifiedBlocks } from './pieces.ts';

/**
 * The one way onto a slot. From the first write to the last there is no file system on it that GRUB could find, even if the
 * boot environment said that there were: the first MiB is zeroed first and written last, and of that the magic number after
 * everything else. Its few bytes lie in one sector, so no power cut tears them from one another.
 */

const MIB = 1 << 20;

export interface MediumWrite {
  readonly slot: Slot;
  readonly slotBytes: number;
  readonly layout: SlotLayout;
  readonly content: Content;
  readonly pieces: AsyncIterable<Piece>;
  /** Judges the first MiB before anything on the host has changed. */
  readonly admit: (head: Uint8Array) => void;
  /** Makes both copies of the boot environment say "not ok"; must have reached the disk when it returns. */
  readonly invalidate: () => Promise<void>;
  /** Judges the finished slot; what it refuses is made unreadable again. */
  readonly approve?: () => Promise<void>;
  readonly onWritten?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

interface Machine {
  readonly disk: Disk;
  readonly log: Log;
}

/** @throws QxError HASH_MISMATCH | SIZE_MISMATCH | READBACK_MISMATCH | SLOT_RUNNING; GRUB then finds nothing on the slot */
export async function writeMedium(machine: Machine, write: MediumWrite): Promise<void> {
  const blocks = verifiedBlocks(write.pieces, write.content, MIB);
  try {
    const first = await blocks.next();
    const head = first.done === true ? new Uint8Array(0) : first.value.bytes.slice();
    write.admit(head);
    checkSignal(write.signal);
    const device = await machine.disk.openForWriting(write.slot);
    try {
      await write.invalidate();
      await replaceContent(machine, device, blocks, write, head);
    } finally {
      await device.close();
    }
  } finally {
    await blocks.return(undefined);
  }
}

async function replaceContent(
  { disk, log }: Machine,
  device: OpenDevice,
  blocks: AsyncIterable<Piece>,
  write: MediumWrite,
  head: Uint8Array,
): Promise<void> {
  try {
    await eraseHead(device, write);
    await writeRest(device, blocks, write, head);
    await writeHead(disk, device, write, head);
  } catch (cause) {
    await eraseHead(device, write).catch((error: unknown) => {
      // The medium refuses even this. The boot environment says "not ok"; the first failure is the one to be told.
      log.warn('slot_not_erased', { slot: write.slot, cause: String(cause), error: String(error) });
    });
    throw cause;
  }
}

async function eraseHead(device: OpenDevice, { slotBytes }: MediumWrite): Promise<void> {
  await device.write(0, new Uint8Array(Math.min(MIB, slotBytes)));
  await device.sync();
}

/** Everything behind the first MiB, on the medium when it returns. */
async function writeRest(
  device: OpenDevice,
  blocks: AsyncIterable<Piece>,
  write: MediumWrite,
  head: Uint8Array,
): Promise<void> {
  write.onWritten?.(0);
  for await (const { offset, bytes } of blocks) {
    checkSignal(write.signal);
    await device.write(offset, bytes);
    write.onWritten?.(offset + bytes.length - head.length);
  }
  await device.sync();
}

/**
 * The head in memory and the rest as the medium has it hash to what was signed; then the head on the medium is compared with
 * the one in memory: so the medium holds the signed image, and the rest need not be read a second time.
 */
async function writeHead(disk: Disk, device: OpenDevice, write: MediumWrite, head: Uint8Array): Promise<void> {
  const { slot, layout, content, signal } = write;
  const restBytes = content.sizeBytes - head.length;
  const read = await disk.hashRange(slot, head.length, restBytes, { prefix: head, signal });
  if (read !== content.sha256) throw mismatch(slot);
  checkSignal(signal);
  const { at, lengthBytes } = MAGIC_AT[layout];
  await device.write(0, head.slice().fill(0, at, at + lengthBytes));
  await device.sync();
  await device.write(at, head.subarray(at, at + lengthBytes));
  await device.sync();
  if (Buffer.compare(await disk.readStart(slot, head.length), head) !== 0) throw mismatch(slot);
  await write.approve?.();
  write.onWritten?.(content.sizeBytes);
}

function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new QxError('CANCELLED', 'writing the slot was cancelled');
}

const mismatch = (slot: Slot): QxError =>
  new QxError('READBACK_MISMATCH', `slot ${slot} does not hold what was written to it`, {
    next: 'the disk loses data: check it with smartctl before another update',
  });
