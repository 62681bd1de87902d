import type { Code } from '../errors.ts';
import type { KernelWords } from '../format/cmdline.ts';
import type { Slot } from '../format/grubenv.ts';

/**
 * Whether /boot and the slots, as this system finds them by their names, are the ones that GRUB read. A label says nothing: a
 * stick may have the same one. GRUB names the partitions by their ids; a copy of the disk has those too.
 */

export interface Partition {
  /** Such as /dev/sda2; of a disk without partitions the disk itself. */
  readonly device: string;
  /** The same for all partitions of one disk. */
  readonly disk: string;
  /** As GRUB and the kernel write it; null where the table cannot be read, or names none. */
  readonly uuid: string | null;
  /** Of the partition, and of the file system on it where that is an ext4. */
  readonly label: string | null;
  readonly systemLabel: string | null;
}

export interface DiskFacts {
  readonly partitions: readonly Partition[];
  /** Device of the partition that /boot/grub lies on; null where it lies on none. */
  readonly boot: string | null;
}

export interface DiskTrouble {
  readonly code: Code;
  readonly detail: string;
  readonly next: string;
}

type Told = Pick<KernelWords, 'bootPart' | 'slotParts'>;

/** The partitions that may be the one which GRUB read its files from; more than one where a disk and its copy are both here. */
export const grubsPartitions = ({ bootPart }: Told, { partitions }: DiskFacts): readonly Partition[] =>
  bootPart === null ? [] : partitions.filter(({ uuid }) => uuid === bootPart);

/** What is wrong with /boot. `found`: what is left of `grubsPartitions` once copies were told apart. */
export function judgeBoot(told: Told, facts: DiskFacts, found: readonly Partition[]): DiskTrouble | null {
  if (told.bootPart === null) return null;
  const [grubs, copy] = found;
  if (grubs === undefined) return partitionGone(told.bootPart, facts);
  if (copy !== undefined) return sameDisk(grubs, copy);
  if (facts.boot === grubs.device) return null;
  if (facts.boot !== null && grubsPartitions(told, facts).length > 1) return otherCopy(grubs, facts.boot);
  return facts.boot === null
    ? {
        code: 'BOOT_MISSING',
        detail: `GRUB read its files from ${grubs.device}, and /boot is not mounted`,
        next: MOUNT,
      }
    : {
        code: 'BOOT_MISMATCH',
        detail: `GRUB read its files from ${grubs.device}, and /boot/grub is on ${facts.boot}`,
        next: `mount ${grubs.device} on /boot, then repeat this`,
      };
}

const MOUNT = 'mount /boot, then repeat this';

/** Nobody can say so while there are partitions whose ids cannot be read. */
function partitionGone(uuid: string, { partitions }: DiskFacts): DiskTrouble | null {
  if (partitions.length === 0 || partitions.some((partition) => partition.uuid === null)) return null;
  const detail = `GRUB read its files from partition ${uuid}, which this system does not have`;
  return { code: 'BOOT_MISMATCH', detail, next: 'look for its disk with blkid, or remove it for good and restart' };
}

function otherCopy(grubs: Partition, boot: string): DiskTrouble {
  const detail = `two disks are the same one: GRUB read its files from ${grubs.device}, and /boot/grub is on ${boot}`;
  return { code: 'BOOT_MISMATCH', detail, next: 'take one of the two disks out, and restart' };
}

function sameDisk(a: Partition, b: Partition): DiskTrouble {
  const detail = `two disks are the same one, ${a.device} and ${b.device} have one id: nobody can tell from which of the two GRUB starts this host`;
  const next = `take one of the two disks out, or give one new ids: sgdisk --randomize-guids ${b.disk}`;
  return { code: 'DISK_AMBIGUOUS', detail, next };
}

/** What somebody who goes by a name or an id could take for this partition. */
export function namesakes({ partitions }: DiskFacts, device: string): readonly Partition[] {
  const own = partitions.find((partition) => partition.device === device);
  const isSame = (a: string | null, b: string | null): boolean => a !== null && a === b;
  return partitions.filter(
    (p) =>
      p.device !== device &&
      own !== undefined &&
      (isSame(p.uuid, own.uuid) || isSame(p.label, own.label) || isSame(p.systemLabel, own.systemLabel)),
  );
}

/** The device that GRUB starts a slot from; null where it does not say. */
export const grubsSlot = (told: Told, facts: DiskFacts, found: readonly Partition[], slot: Slot): string | null => {
  const [grubs, copy] = found;
  if (grubs === undefined || copy !== undefined) return null;
  const uuid = told.slotParts[slot];
  return facts.partitions.find((p) => uuid !== null && p.uuid === uuid && p.disk === grubs.disk)?.device ?? null;
};

const slotLabel = (slot: Slot): string => `QUANTIX-${slot}`;

export interface SlotPlace {
  readonly slot: Slot;
  /** Where its configured name leads; null where it leads nowhere. */
  readonly named: string | null;
  /** As `grubsSlot` has it. */
  readonly grubs: string | null;
}

/** Why nothing may be written to a slot: by one of its names somebody else would find another one. */
export function judgeSlot(facts: DiskFacts, { slot, named, grubs }: SlotPlace): DiskTrouble | null {
  if (grubs !== null && named !== null && named !== grubs) {
    const detail = `GRUB starts slot ${slot} from ${grubs}, and its name on this system leads to ${named}`;
    return {
      code: 'SLOT_MISPLACED',
      detail,
      next: `remove what else is called ${slotLabel(slot)}, or set slots in node.yaml`,
    };
  }
  return sameName(facts, slot) ?? otherDisk(facts, slot, grubs ?? named);
}

function sameName({ partitions }: DiskFacts, slot: Slot): DiskTrouble | null {
  const name = slotLabel(slot);
  const of = ({ label, systemLabel }: Partition): boolean => label === name || systemLabel === name;
  const [first, ...others] = partitions.filter(of);
  // Members of one RAID are called the same, and are one.
  const second = others.find(({ device }) => device !== first?.device);
  if (first === undefined || second === undefined) return null;
  const detail = `${first.device} and ${second.device} are both called ${name}: this system and GRUB may mean different ones`;
  return { code: 'DISK_AMBIGUOUS', detail, next: 'take one of the two out, or give one another name' };
}

function otherDisk({ partitions, boot }: DiskFacts, slot: Slot, device: string | null): DiskTrouble | null {
  const disk = (path: string | null) => partitions.find((partition) => partition.device === path)?.disk ?? null;
  const [own, boots] = [disk(device), disk(boot)];
  if (own === null || boots === null || own === boots) return null;
  const detail = `slot ${slot} is on ${own}, and /boot/grub on ${boots}: which of the two disks starts this host?`;
  return {
    code: 'SLOT_MISPLACED',
    detail,
    next: 'mount the /boot of the disk that the slots are on, or set slots in node.yaml',
  };
}
