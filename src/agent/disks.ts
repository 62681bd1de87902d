import {
  type DiskFacts,
  type DiskTrouble,
  grubsPartitions,
  grubsSlot,
  judgeBoot,
  judgeSlot,
  namesakes,
  type Partition,
} from '../core/disks.ts';
import { QxError } from '../errors.ts';
import { decodeBoot, type Slot } from '../format/grubenv.ts';
import type { Disks } from '../ports/disks.ts';
import type { Boot, Booted } from '../ports.ts';

/** Where GRUB reads its files and its slots from, as this system sees it. Looked at each time: a disk comes and goes. */

interface Machine {
  readonly boot: Boot;
  readonly disks: Disks;
}

interface Configured extends Machine {
  readonly config: { readonly slots: Readonly<Record<Slot, string>> };
}

interface Places {
  readonly booted: Booted;
  readonly facts: DiskFacts;
  /** What GRUB may have read its files from, copies told apart. */
  readonly found: readonly Partition[];
}

/** Null for a folder, and for a system that our GRUB did not start. */
async function look(machine: Machine): Promise<Places | null> {
  const booted = await machine.boot.booted();
  if (booted.slot === null) return null;
  const facts = await machine.disks.look();
  return facts && { booted, facts, found: await toldApart(machine, booted, facts) };
}

/**
 * A disk and an exact copy of it have the same ids. Only what GRUB has saved in this very boot is on one of them alone: the
 * tries that are left of a trial.
 */
async function toldApart({ boot, disks }: Machine, booted: Booted, facts: DiskFacts): Promise<readonly Partition[]> {
  const all = grubsPartitions(booted, facts);
  const { trial, triesLeft, slot } = booted;
  if (all.length < 2 || trial === '' || triesLeft === null || slot === null) return all;
  const saved = await Promise.all(
    all.map(async ({ device }) => {
      // One that cannot be read may be the one.
      const blocks = device === facts.boot ? await copies(boot) : await disks.environmentsOn(device).catch(() => null);
      if (blocks === null) return true;
      return blocks.map(decodeBoot).some((state) => state?.trial === trial && state[slot].tries === triesLeft);
    }),
  );
  const one = all.filter((_, i) => saved[i]);
  return one.length === 1 ? one : all;
}

const copies = async (boot: Boot): Promise<readonly Uint8Array[]> =>
  (await Promise.all([boot.read('grubenv'), boot.read('grubenv.bak')])).filter((bytes) => bytes !== null);

/** Why /boot is not known to be what GRUB reads; null while it is, as far as anybody can tell. */
export async function bootPlaceTrouble(machine: Machine): Promise<QxError | null> {
  const places = await look(machine);
  return places && asError(judgeBoot(places.booted, places.facts, places.found));
}

const asError = (trouble: DiskTrouble | null): QxError | null =>
  trouble && new QxError(trouble.code, trouble.detail, { next: trouble.next });

/** The device that GRUB starts a slot from; null where it does not say. */
export async function grubsDevice(machine: Machine, slot: Slot): Promise<string | null> {
  const places = await look(machine);
  return places && grubsSlot(places.booted, places.facts, places.found, slot);
}

/** Where the running system lies, if that is not where GRUB starts its slot from; null as far as anybody can tell. */
export async function runsFromAnother(machine: Machine, slot: Slot): Promise<string | null> {
  const places = await look(machine);
  const grubs = places && grubsSlot(places.booted, places.facts, places.found, slot);
  if (places === null || grubs === null || (await machine.disks.isInUse(grubs))) return null;
  for (const { device } of namesakes(places.facts, grubs)) {
    if (await machine.disks.isInUse(device))
      return `GRUB started slot ${slot} from ${grubs}, and the system runs from ${device}`;
  }
  return null;
}

/** Why a slot may not be written. */
export async function slotPlaceTrouble(machine: Configured, slot: Slot): Promise<QxError | null> {
  const places = await look(machine);
  if (places === null) return null;
  const { booted, facts, found } = places;
  const named = await machine.disks.resolve(machine.config.slots[slot]);
  return asError(judgeSlot(facts, { slot, named, grubs: grubsSlot(booted, facts, found, slot) }));
}
