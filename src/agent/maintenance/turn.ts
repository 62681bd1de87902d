import { asQxError } from '../../errors.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Grant } from '../../ports/offer.ts';
import type { Member } from '../fleet/enrol.ts';
import { ownMembership } from '../fleet/membership.ts';
import type { Host } from '../host.ts';
import { type Coordinator, nobody } from './coordinator.ts';
import type { HostDrain } from './drain.ts';
import { fleet } from './fleet.ts';
import { fleetlock } from './fleetlock.ts';

/** What all steps of a maintenance share. What has to survive a crash is not here but in the record and in the reports. */

export type Machine = Pick<Host, 'config' | 'hooks' | 'clock' | 'random'> & Member;

export interface Turn {
  readonly host: Machine;
  readonly drain: HostDrain;
  readonly now: {
    /** When the reboot was last asked for, on the clock that never steps. */
    askedMs: number;
    waitsFor: string | null;
    hasToldVerifying: boolean;
    /** In a row, of what this host has to do by itself; it is left alone until then. */
    failures: number;
    quietUntilMs: number;
    /** Where a span of the record began, on the clock that never steps. */
    held: { readonly since: string; readonly fromMs: number } | null;
    /** In a row: whoever gave an earlier place did not hear that it is over. */
    untold: number;
  };
}

/** Whoever is asked now. */
export async function coordinatorOf(host: Machine): Promise<Coordinator> {
  const membership = await ownMembership(host.files);
  if (membership !== null) return fleet(host, membership);
  return host.config.fleetlock === null ? nobody : fleetlock(host, host.config.fleetlock);
}

/** Whoever granted an earlier one, though somebody else may be asked now; null when he can no longer be reached by anybody. */
export async function coordinatorBy(
  host: Machine,
  { by, fleetlock: lock }: HostMaintenance,
): Promise<Coordinator | null> {
  if (by === 'nobody') return nobody;
  // Where the lock was taken, which the settings may not name any more.
  const settings = lock ?? host.config.fleetlock;
  if (by === 'fleetlock') return settings && fleetlock(host, settings);
  const membership = await ownMembership(host.files);
  return membership && fleet(host, membership);
}

/** Whatever went wrong, with what to do about it. */
export function noBecause(error: unknown): Grant {
  const { message, next } = asQxError(error);
  return no(next === undefined ? message : `${message}; ${next}`);
}

export const no = (reason: string, retryAfterMs?: number): Grant => ({
  granted: false,
  reason,
  ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
});
