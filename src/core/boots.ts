import type { MaintenanceState } from '../format/maintenance.ts';

/**
 * Whether whoever speaks as a host is still the same machine. A machine has one boot at a time, and one that is over never comes
 * back: two that take turns are two machines with one key.
 */

export interface KnownBoot {
  readonly boot: string;
  /** `refused`: a person said that it is not the host. */
  readonly state: 'current' | 'over' | 'refused';
}

export interface Speaker {
  /** Null: an agent from before, which does not say it. */
  readonly boot: string | null;
  /** `grant`: it asks for leave, or makes use of it. `report`: it says or asks how things stand. */
  readonly wants: 'grant' | 'report';
}

/** Of the latest maintenance. */
export interface Begun {
  readonly state: MaintenanceState;
  /** The boot that made use of the grant; null when none did, or nobody noted it. */
  readonly by: string | null;
}

/** `by` for an agent that does not say which boot it is. */
export const UNTOLD_BOOT = '';

export type Notice =
  | 'as before'
  /** The first one that was ever told. */
  | 'first'
  /** The host has restarted. What it was granted before is granted to that boot no more. */
  | 'next'
  /** One that was over. */
  | 'came back'
  /** It asks for what another boot has begun to use: a host that restarted would first say how that went. */
  | 'uses the grant of another'
  | 'refused';

const BEGUN: ReadonlySet<MaintenanceState> = new Set(['updating', 'rebooting', 'verifying']);

export function noticeBoot(known: readonly KnownBoot[], { boot, wants }: Speaker, begun: Begun | null): Notice {
  const before = known.find((one) => one.boot === boot)?.state;
  if (before === 'refused') return 'refused';
  if (before === 'over') return 'came back';
  const isUsed = begun !== null && BEGUN.has(begun.state) && begun.by !== null;
  if (wants === 'grant' && isUsed && begun.by !== (boot ?? UNTOLD_BOOT)) return 'uses the grant of another';
  if (boot === null || before === 'current') return 'as before';
  return known.some(({ state }) => state === 'current') ? 'next' : 'first';
}
