import { isCode } from '../../errors.ts';
import type { Outlook } from '../../format/agent-documents.ts';
import type { DrainPlan } from '../../format/drain-plan.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import { ACTIVE_STATES, type MaintenanceState, type MaintenanceStatus } from '../../format/maintenance.ts';
import type { Standing, Wish } from './coordinator.ts';
import type { DrainState } from './drain.ts';

/** What the answers of a fleet mean for this host, and how this host says things to it. Pure. */

/** One that was called off or failed is not asked for again at once: somebody had a reason. */
const AGAIN_AFTER_MS = 15 * 60_000;

/** Its answer may have been lost: then it is the one for the same version. */
export const isMeant = ({ maintenance_id, target_version }: HostMaintenance, now: MaintenanceStatus): boolean =>
  maintenance_id === undefined ? now.target_version === target_version : now.maintenance_id === maintenance_id;

export const NOBODY_EMPTIES =
  'nobody empties this host: put a program into drain.d, or set updates.carries_vms to false in node.yaml';

/** Asked for or granted, and nothing done about it yet. */
export const BEFORE: ReadonlySet<MaintenanceState> = new Set(['requested', 'draining', 'ready']);

/** What the fleet hears of how it ended. */
export function endOf(
  how: string,
  { target_version }: HostMaintenance,
  now: MaintenanceStatus,
  detail = 'it was given up',
) {
  if (how === 'took back') return { success: false, error: detail, untouched: true };
  if (how !== 'complete') return { success: false, error: detail };
  if (target_version === now.target_version) return { success: true, version: target_version };
  return { success: false, error: `it runs ${target_version}, and was granted for ${now.target_version}` };
}

/** Nothing was begun: the host could not be emptied. One that still has its place is for an operator to look after. */
const hasDrainFailed = ({ state, update_started, fencing_token, holds_place }: MaintenanceStatus): boolean =>
  state === 'failed' && update_started === undefined && fencing_token !== undefined && !holds_place;

/** Granted and begun: an agent that was started anew before the reboot goes on. */
const BEGUN: ReadonlySet<MaintenanceState> = new Set(['updating', 'rebooting']);

export const bodyOf = (node_id: string, { version, updateType }: Wish) => ({
  node_id,
  target_version: version,
  update_type: typeOf(updateType),
  requires_reboot: updateType !== 'component',
});

/** The server knows two kinds: a bare reboot is as much of a change to the VMs as a full update. */
export const typeOf = (updateType: Wish['updateType']): 'component' | 'full' =>
  updateType === 'component' ? 'component' : 'full';

export const isFor = (status: MaintenanceStatus, { version, updateType }: Wish): boolean =>
  ACTIVE_STATES.includes(status.state) &&
  status.target_version === version &&
  status.update_type === typeOf(updateType);

export function pauseAfter({ state, completed_at }: MaintenanceStatus, nowMs: number): number {
  if (state !== 'failed' && state !== 'cancelled') return 0;
  const agoMs = nowMs - Date.parse(completed_at ?? '');
  // By a clock that was set in between nothing can be said; then it is asked for.
  return agoMs >= 0 && agoMs < AGAIN_AFTER_MS ? AGAIN_AFTER_MS - agoMs : 0;
}

/** Of one that is over; null: it may be asked for anew. */
export function standingAfter(now: MaintenanceStatus, nowMs: number): Standing | null {
  if (hasDrainFailed(now)) return { kind: 'given up', reason: now.message };
  const pauseMs = pauseAfter(now, nowMs);
  if (pauseMs === 0) return null;
  const again = `it is asked for again in ${Math.ceil(pauseMs / 60_000)} min`;
  return { kind: 'wait', reason: `${now.message}; ${again}`, retryAfterMs: pauseMs };
}

export function standingOf({ state, proceed_now, drain_by, message, wait_seconds }: MaintenanceStatus): Standing {
  if (proceed_now || BEGUN.has(state)) return { kind: 'go' };
  if (state === 'draining' && drain_by === 'host') return { kind: 'drain' };
  return { kind: 'wait', reason: message, retryAfterMs: (wait_seconds ?? 30) * 1000 };
}

export const progressOf = ({ totalVms, remaining, failure, isEmpty }: DrainState) => ({
  total_vms: totalVms,
  migrated_vms: totalVms - remaining.length,
  remaining_vms: [...remaining],
  failed_vms: failure === null ? [] : remaining.map((vm) => ({ vm, reason: failure.slice(0, 2000) })),
  completed: isEmpty,
});

export function outlookOf({
  message,
  waits_for,
  control_plane_error,
  vms,
  blocks,
  expected_seconds,
}: DrainPlan): Outlook {
  const others = [waits_for && `it waits for its turn: ${waits_for}`, control_plane_error].filter(
    (one) => one !== undefined,
  );
  return {
    message,
    vms: (vms ?? []).map(({ vm, target_node, reason }) => ({
      vm,
      ...(target_node === null ? {} : { target: target_node }),
      ...(reason === undefined ? {} : { reason }),
    })),
    blocks: [...others, ...(blocks ?? []).map(({ vm, reason }) => (vm === undefined ? reason : `${vm}: ${reason}`))],
    ...(expected_seconds === null ? {} : { expectedSeconds: expected_seconds }),
  };
}

/** It knows of no such maintenance, or of a later one: of this one there is nothing left to tell. */
export const isOver = (error: unknown): boolean => isCode(error, 'EPOCH_STALE') || isCode(error, 'NOT_IN_MAINTENANCE');
