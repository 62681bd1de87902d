import { type BootState, other, type Slot } from '../core/boot.ts';
import { inUse } from '../core/components.ts';
import { isHeldAgainst } from '../core/memory.ts';
import type { HostFacts } from '../core/plan.ts';
import { isSettled } from '../core/update.ts';
import { readInstalled } from '../delivery/components/versions.ts';
import type { Journal, Memory } from '../format/journal.ts';
import { isNewer, versionSaid } from '../format/version.ts';
import type { Files } from '../ports.ts';
import { currentBoot } from './bootenv.ts';
import { carriedComponents, unusedInData } from './carried.ts';
import { type Host, PATHS } from './host.ts';
import { loadJournal, loadMemory } from './store.ts';

/** What this host is now. Read from the disk each time it is asked, so that nothing remembered can be out of date. */

export interface Situation {
  readonly facts: HostFacts;
  /** The versions that run while /data holds these. */
  readonly running: (inData: ReadonlyMap<string, string>) => ReadonlyMap<string, string>;
  readonly inData: ReadonlyMap<string, string>;
  readonly journal: Journal | null;
  readonly memory: Memory;
}

export async function situation(host: Host): Promise<Situation> {
  const [journal, memory, booted, env, osVersion, inData] = await Promise.all([
    loadJournal(host),
    loadMemory(host),
    host.boot.booted(),
    currentBoot(host),
    readOsVersion(host.files),
    readInstalled(host.files, PATHS.versions),
  ]);
  const carried = await carriedComponents(host.files, osVersion);
  const isUnused = await unusedInData(host.files);
  const running = (data: ReadonlyMap<string, string>) => inUse(data, carried, isUnused, booted.safe);
  const committed = memory.committed?.version ?? osVersion;
  const version = isNewer(committed, osVersion) ? committed : osVersion;
  return {
    journal,
    memory,
    inData,
    running,
    facts: {
      version,
      currentVersion: isOnOtherSlot(memory, booted.slot, version) ? osVersion : version,
      osVersion,
      components: running(inData),
      carried,
      runningSlot: booted.slot,
      runningImage: booted.slot === null ? null : (memory.slots[booted.slot]?.sha256 ?? null),
      isOnTrial: isTrialBoot(journal, booted.slot) || isNotGood(env, booted.slot),
      bad: badNow(memory, host.clock.nowMs()),
      armed: journal?.phase === 'armed' ? { digest: journal.release_digest, version: journal.target_version } : null,
    },
  };
}

/** The image of this version lies on the slot that does not run. */
const isOnOtherSlot = ({ slots }: Memory, running: Slot | null, version: string): boolean =>
  running !== null && slots[other(running)]?.version === version && slots[running]?.version !== version;

const badNow = ({ bad }: Memory, nowMs: number): HostFacts['bad'] =>
  new Map(
    bad
      .filter((entry) => isHeldAgainst(entry, nowMs))
      .map(({ release_digest, reason, code, until = null }) => [
        release_digest,
        { reason, until, isTakenBack: code === 'ROLLED_BACK' },
      ]),
  );

/**
 * What a new update begins with: one that still waits for its reboot is undone first, and what it brought goes with it. A
 * plan that took its components for installed would leave them out.
 */
export function startingPoint({ facts, journal, inData, running }: Situation): HostFacts {
  if (journal?.phase !== 'armed') return facts;
  const before = new Map(inData);
  for (const { name, previous_version } of journal.components) {
    if (previous_version === null) before.delete(name);
    else before.set(name, previous_version);
  }
  return { ...facts, components: running(before) };
}

const isTrialBoot = (journal: Journal | null, running: Slot | null): boolean =>
  journal !== null &&
  !isSettled(journal.phase) &&
  journal.pending &&
  running !== null &&
  running === journal.target_slot;

/** Booted by hand or as a last resort: to GRUB it is no way back yet, so the other slot must stay what it is. */
const isNotGood = (env: BootState | null, running: Slot | null): boolean =>
  env !== null && running !== null && !env[running].ok;

const UNKNOWN_VERSION = '0.0.0';
const MAX_BYTES = 4096;

/** The image says which version it is; an image that does not counts as older than everything. */
export const readOsVersion = async (files: Files): Promise<string> => (await saidOsVersion(files)) ?? UNKNOWN_VERSION;

export const saidOsVersion = async (files: Files): Promise<string | null> =>
  versionSaid(await readText(files, PATHS.osVersion), await readText(files, PATHS.osRelease));

async function readText(files: Files, path: string): Promise<string> {
  const bytes = await files.read(path, MAX_BYTES);
  return bytes === null ? '' : new TextDecoder().decode(bytes);
}

const MAX_TABLE_BYTES = 4 << 20;

/** A table of /proc/net; empty where this host has none. */
export async function kernelTable({ files }: Host, name: 'arp' | 'route' | 'ipv6_route'): Promise<string> {
  return new TextDecoder().decode((await files.read(`/proc/net/${name}`, MAX_TABLE_BYTES)) ?? new Uint8Array());
}
