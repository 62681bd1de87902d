import type { Grant } from '../../ports/offer.ts';
import type { Member } from '../fleet/enrol.ts';
import { loadMembership } from '../fleet/membership.ts';
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
  };
}

export async function coordinatorOf(host: Machine): Promise<Coordinator> {
  const membership = await loadMembership(host.files);
  if (membership !== null) return fleet(host, membership);
  return host.config.fleetlock === null ? nobody : fleetlock(host, host.config.fleetlock);
}

export const no = (reason: string, retryAfterMs?: number): Grant => ({
  granted: false,
  reason,
  ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
});
