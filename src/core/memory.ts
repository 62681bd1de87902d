import type { Code } from '../errors.ts';
import type { Memory } from '../format/journal.ts';
import { isNewer } from '../format/version.ts';
import type { Slot } from './boot.ts';
import { isDatedAhead } from './dates.ts';

/** What the host remembers between updates, and how it changes. `core/trust.ts` has the high-water mark. */

export interface GoodRelease {
  readonly version: string;
  readonly release_date: string;
  readonly release_digest: string;
  readonly min_rollback_version: string | null;
}

/** The floor rises only here: a release that did not prove itself must not close the way back. */
export function withCommitted(memory: Memory, release: GoodRelease, nowMs: number): Memory {
  const { version, release_date, release_digest, min_rollback_version: asked } = release;
  const floor = asked !== null && (memory.floor === null || isNewer(asked, memory.floor)) ? asked : memory.floor;
  return {
    ...memory,
    floor,
    committed: {
      ...{ version, release_date, release_digest },
      ...(isDatedAhead(release, nowMs) ? { dated_ahead: true } : {}),
    },
    committed_before: isCommitted(memory, release_digest) ? (memory.committed_before ?? null) : memory.committed,
    bad: memory.bad.filter((b) => b.release_digest !== release_digest),
  };
}

const isCommitted = ({ committed }: Memory, digest: string): boolean => committed?.release_digest === digest;

const KEPT_BAD = 32;

export function withBad(memory: Memory, bad: Memory['bad'][number]): Memory {
  const others = memory.bad.filter((b) => b.release_digest !== bad.release_digest);
  const back = isCommitted(memory, bad.release_digest)
    ? { committed: memory.committed_before ?? null, committed_before: null }
    : {};
  return { ...memory, ...back, bad: [...others, bad].slice(-KEPT_BAD) };
}

/** After a trial that the host itself had ended, in a row; then somebody has to ask for it. */
const PAUSES_MS = [3_600_000, 6 * 3_600_000, 24 * 3_600_000];

/**
 * Nothing is known against the release. But each try costs a reboot: the pause grows, and there is an end to it. `id` names
 * the update, which may end more than once when the power is cut while it does.
 */
export function withInterrupted(memory: Memory, bad: Memory['bad'][number] & { readonly id: string }): Memory {
  const before = memory.bad.find(({ release_digest }) => release_digest === bad.release_digest);
  if (before?.id === bad.id) return memory;
  const times = (before?.times ?? 0) + 1;
  const pauseMs = PAUSES_MS[times - 1];
  const until = pauseMs === undefined ? {} : { until: new Date(Date.parse(bad.at) + pauseMs).toISOString() };
  return withBad(memory, { ...bad, times, ...until });
}

/** A clock that says an earlier time than the entry was wrong then, or is now: nobody can tell how long it has waited. */
export const isHeldAgainst = ({ at, until }: Memory['bad'][number], nowMs: number): boolean =>
  until === undefined || (nowMs >= Date.parse(at) && nowMs < Date.parse(until));

export const withSlot = (memory: Memory, slot: Slot, content: Memory['slots'][Slot]): Memory => ({
  ...memory,
  slots: { ...memory.slots, [slot]: content },
});

const FAULTS: ReadonlySet<Code> = new Set<Code>([
  'SERVICE_FAILED',
  'PROBE_FAILED',
  'ARCHIVE_UNSAFE',
  'ARCHIVE_MALFORMED',
  'ARCHIVE_TOO_LARGE',
  'IMAGE_UNBOOTABLE',
  'PATH_NOT_ALLOWED',
  'DEPENDENCY_UNMET',
]);

/** The release itself is what failed: trying it again would fail again. A network, a disk or a power cut says nothing of it. */
export const isReleaseAtFault = (code: Code): boolean => FAULTS.has(code);

const OF_THE_HOST: ReadonlySet<string> = new Set<Code>([
  'BOOT_ENV_READ_ONLY',
  'BOOT_MISMATCH',
  'BOOT_MISSING',
  'DISK_AMBIGUOUS',
  'IMAGE_MISMATCH',
  'MOUNT_MISSING',
  'READBACK_MISMATCH',
  'SLOT_MISPLACED',
  'SLOT_TOO_SMALL',
  'TRIAL_INTERRUPTED',
  'TRIAL_PASSED_OVER',
]);

/** Nothing that the release could be blamed for, and yet nothing to try again at once: each try costs a write, or a reboot. */
export const isHostAtFault = (code: string): boolean => OF_THE_HOST.has(code);
