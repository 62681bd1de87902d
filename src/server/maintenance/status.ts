import { ACTIVE_STATES, type MaintenanceState, type MaintenanceStatus } from '../../format/maintenance.ts';
import { sharedInWords } from '../nodes/boots.ts';
import type { MaintenanceTable, NodeTable } from '../store.ts';

/** What everybody is told about the maintenance of a host. */

export interface Seen {
  readonly node: NodeTable;
  /** Null: the host never was in maintenance. */
  readonly row: MaintenanceTable | null;
  readonly holdsPlace: boolean;
  /** Whom the server asks to empty hosts that carry VMs. */
  readonly drainBy: 'control-plane' | 'host';
  /** Of one that waits: what for. */
  readonly blockedBy?: string;
  /** Why the control plane does not know yet what it is to do. */
  readonly untold?: string | null;
  /** Since when two machines speak as this host. */
  readonly conflictMs?: number | null;
}

const WAIT_SECONDS: Partial<Record<MaintenanceState, number>> = { requested: 30, draining: 30, updating: 10 };

export function statusOf({
  node,
  row,
  holdsPlace,
  drainBy,
  blockedBy,
  untold,
  conflictMs = null,
}: Seen): MaintenanceStatus {
  const base = {
    node_id: node.name,
    group: node.fleet_group,
    holds_place: holdsPlace,
    drain_by: node.carries_vms === 0 ? ('nobody' as const) : drainBy,
  };
  const conflict = conflictMs === null ? null : sharedInWords(node, conflictMs);
  const shared = conflict === null ? {} : { conflict, message: conflict, proceed_now: false };
  if (row === null) return { ...base, ...NONE, ...shared };
  const failed: MaintenanceStatus['failed_vms'] = JSON.parse(row.failed_vms);
  const remaining: string[] = JSON.parse(row.remaining_vms);
  const waitSeconds = WAIT_SECONDS[row.state];
  return {
    ...base,
    maintenance_id: row.id,
    state: row.state,
    approved: row.state !== 'requested' && ACTIVE_STATES.includes(row.state),
    proceed_now: row.state === 'ready',
    message: `${messageOf(row, blockedBy)}${untold ? `; the control plane was not told yet: ${untold} (qx-fleet order list)` : ''}`,
    ...(waitSeconds === undefined ? {} : { wait_seconds: waitSeconds }),
    ...(row.epoch === 0 ? {} : { fencing_token: row.epoch }),
    ...(row.state === 'ready' ? instantAt('expires_at', row.expires_ms) : {}),
    target_version: row.target_version,
    update_type: row.update_type,
    requires_reboot: row.requires_reboot === 1,
    total_vms: row.total_vms,
    migrated_vms: row.migrated_vms,
    vms_remaining: Math.max(remaining.length, row.total_vms - row.migrated_vms),
    remaining_vms: remaining,
    failed_vms: failed,
    ...instantAt('requested_at', row.requested_ms),
    ...instantAt('draining_started', row.draining_ms),
    ...instantAt('ready_at', row.ready_ms),
    ...instantAt('update_started', row.update_started_ms),
    ...instantAt('completed_at', row.completed_ms),
    ...(row.error === null ? {} : { error_message: row.error }),
    ...shared,
  };
}

const NONE = {
  maintenance_id: null,
  state: 'none',
  approved: false,
  proceed_now: false,
  message: 'Not in maintenance mode',
  target_version: null,
  update_type: null,
  requires_reboot: false,
  total_vms: 0,
  migrated_vms: 0,
  vms_remaining: 0,
  remaining_vms: [],
  failed_vms: [],
} as const satisfies Partial<MaintenanceStatus>;

const instantAt = <Name extends string>(name: Name, ms: number | null): { [N in Name]?: string } =>
  ms === null ? {} : ({ [name]: new Date(ms).toISOString() } as { [N in Name]?: string });

function messageOf(row: MaintenanceTable, blockedBy = 'a place is given out soon'): string {
  const messages: Record<MaintenanceState, string> = {
    none: NONE.message,
    requested: `Maintenance requested, waiting: ${blockedBy}`,
    draining:
      row.total_vms === 0 ? 'Draining VMs from node' : `Draining VMs: ${row.migrated_vms}/${row.total_vms} migrated`,
    ready: 'Node is drained, ready for update',
    updating: 'Update in progress',
    rebooting: 'Rebooting into the new system',
    verifying: 'The new system looks at its health',
    completed: 'Update successful',
    failed: row.error ?? 'Update failed',
    cancelled: row.error ?? 'Maintenance cancelled',
  };
  return messages[row.state];
}
