import { type Speaker, UNTOLD_BOOT } from '../core/boots.ts';
import { QxError } from '../errors.ts';
import {
  type DrainProgress,
  type MaintenanceComplete,
  type MaintenanceRequest,
  type MaintenanceStatus,
  type MaintenanceStep,
  STEPS,
} from '../format/maintenance.ts';
import { becomeReady, beginDrain, holderOf, release } from './maintenance/grants.ts';
import { aboutHost, expectMeant, type Host, isBefore, isLapsed, type Maintenance } from './maintenance/host.ts';
import { isActive, move } from './maintenance/rows.ts';
import { holdsPlace } from './places.ts';
import type { MaintenanceTable } from './store.ts';

/**
 * How a host comes to be empty before it reboots, and may carry VMs again after it: request, place, drain, ready, the steps of
 * its update, complete. Every call may come twice, or late, and then changes nothing. Who may call is decided before; what
 * operators do about it is in `maintenance/operate.ts`.
 */

/** Asked again, the answer is where the host stands: nothing begins twice. @throws QxError FORBIDDEN */
export async function requestMaintenance(
  m: Maintenance,
  request: MaintenanceRequest,
  actor: string,
  speaker?: Speaker,
): Promise<MaintenanceStatus> {
  if (request.force === true) {
    throw new QxError('FORBIDDEN', 'a host cannot force its own maintenance', {
      next: 'an admin can: qx-fleet maintenance force NODE --reason TEXT',
    });
  }
  return aboutHost(m, { nodeId: request.node_id, actor, speaker, places: 'stay' }, async (host) => {
    if (host.row === undefined || !isActive(host.row)) await begin(m, host, request);
    else if (isBefore(host.row)) await decideFor(host, host.row, request.target_version);
  });
}

async function begin(m: Maintenance, { change, node, row: latest, doing }: Host, request: MaintenanceRequest) {
  const { target_version, update_type, requires_reboot = update_type === 'full' } = request;
  const fresh: MaintenanceTable = {
    ...NOTHING_YET,
    id: m.random.id(),
    node_id: node.id,
    ordinal: (latest?.ordinal ?? 0) + 1,
    fleet_group: node.fleet_group,
    target_version,
    update_type,
    requires_reboot: requires_reboot ? 1 : 0,
    requested_ms: doing.nowMs,
  };
  await change.insertInto('maintenance').values(fresh).execute();
  const row = await move(change, fresh, 'request', doing);
  // Programs are changed while VMs run: nobody has to go, and nobody else is kept waiting.
  if (!requires_reboot) await move(change, row, 'skip', doing, { ready_ms: doing.nowMs });
  // After a failure its place is still its own.
  else if (await holdsPlace(change, holderOf(node.id))) await beginDrain(m, change, { node, row }, 'grant', doing);
}

/** Of a maintenance that was only asked for. */
export const NOTHING_YET = {
  state: 'none',
  epoch: 0,
  began_boot: null,
  draining_ms: null,
  ready_ms: null,
  expires_ms: null,
  update_started_ms: null,
  completed_ms: null,
  total_vms: 0,
  migrated_vms: 0,
  failed_vms: '[]',
  remaining_vms: '[]',
  error: null,
} as const satisfies Partial<MaintenanceTable>;

/** Until it has begun, a host may decide for a newer release; its drain is the same. */
async function decideFor({ change }: Host, row: MaintenanceTable, target_version: string): Promise<void> {
  if (row.target_version === target_version) return;
  await change.updateTable('maintenance').set({ target_version }).where('id', '=', row.id).execute();
}

/** What the control plane says, or the host itself where there is none. @throws QxError NOT_IN_MAINTENANCE | EPOCH_STALE */
export async function takeDrainProgress(
  m: Maintenance,
  progress: DrainProgress,
  actor: string,
  speaker?: Speaker,
): Promise<MaintenanceStatus> {
  const { remaining_vms: remaining = [], completed, total_vms: total, migrated_vms: migrated } = progress;
  if (migrated > total) throw new QxError('BAD_REQUEST', 'more VMs are migrated than there are');
  if (completed && remaining.length > 0)
    throw new QxError('BAD_REQUEST', 'a drain that is completed leaves no VM behind');
  // A drain that failed gives its place back.
  const places = progress.error === undefined ? 'stay' : 'may change';
  return aboutHost(
    m,
    { nodeId: progress.node_id, actor, speaker, places },
    async ({ change, node, row: latest, doing }) => {
      const row = expectMeant(latest, progress);
      // Late or repeated: what it tells is over.
      if (row.state !== 'draining') return;
      const counts = countsOf(progress);
      if (progress.error !== undefined) {
        const over = { ...counts, completed_ms: doing.nowMs, error: progress.error };
        const failed = await move(change, row, 'fail', doing, over);
        await release(m, change, { node, row: failed }, doing.nowMs);
      } else if (completed) await becomeReady(change, row, 'empty', m.grantTtlMs, doing, counts);
      else await change.updateTable('maintenance').set(counts).where('id', '=', row.id).execute();
    },
  );
}

const countsOf = ({ total_vms, migrated_vms, failed_vms = [], remaining_vms = [] }: DrainProgress) => ({
  total_vms,
  migrated_vms,
  failed_vms: JSON.stringify(failed_vms.map((one) => (typeof one === 'string' ? { vm: one } : one))),
  remaining_vms: JSON.stringify(remaining_vms),
});

/**
 * The host goes on, inside its grant: the last question before a reboot. From here on nobody can cancel it.
 * @throws QxError EPOCH_STALE | GRANT_LAPSED | ILLEGAL_TRANSITION
 */
export async function proceed(
  m: Maintenance,
  step: MaintenanceStep,
  actor: string,
  speaker?: Speaker,
): Promise<MaintenanceStatus> {
  const meant = { maintenance_id: step.maintenance_id, epoch: step.fencing_token };
  const told = await aboutHost(m, { nodeId: step.node_id, actor, speaker, places: 'stay' }, async (host) => {
    const { change, node, doing } = host;
    const row = expectMeant(host.row, meant);
    if (row.state === step.state) return;
    // What it was promised may not hold any more: whoever emptied it is asked again.
    if (isLapsed(row, doing.nowMs)) return void (await beginDrain(m, change, { node, row }, 'lapse', doing));
    const update_started_ms = row.update_started_ms ?? doing.nowMs;
    const began = step.state === 'verifying' ? {} : { began_boot: speaker?.boot ?? UNTOLD_BOOT };
    await move(change, row, STEPS[step.state], doing, { update_started_ms, ...began });
  });
  if (told.state === step.state) return told;
  throw new QxError('GRANT_LAPSED', 'the grant has run out, and the host is drained anew', {
    next: 'wait until it is ready again',
  });
}

/** Told until it was acknowledged: the first time counts. @throws QxError NOT_IN_MAINTENANCE | EPOCH_STALE | BAD_REQUEST */
export function completeMaintenance(
  m: Maintenance,
  outcome: MaintenanceComplete,
  actor: string,
  speaker?: Speaker,
): Promise<MaintenanceStatus> {
  return aboutHost(m, { nodeId: outcome.node_id, actor, speaker, places: 'may change' }, async (host) => {
    const { change, node, doing } = host;
    const row = expectMeant(host.row, { ...(outcome.maintenance_id && { maintenance_id: outcome.maintenance_id }) });
    if (!isActive(row)) return;
    const over = { completed_ms: doing.nowMs };
    if (!outcome.success) {
      const failed = await move(change, row, 'fail', doing, { ...over, error: outcome.error ?? 'Update failed' });
      // Otherwise it keeps its place: nobody knows yet what became of it.
      if (outcome.untouched === true && row.state !== 'verifying')
        await release(m, change, { node, row: failed }, doing.nowMs);
      return;
    }
    if (outcome.version !== undefined && outcome.version !== row.target_version) {
      throw new QxError('BAD_REQUEST', `the host runs ${outcome.version} and was to become ${row.target_version}`, {
        next: 'report success: false when the update was not kept',
      });
    }
    const completed = await move(change, row, 'complete', doing, over);
    await release(m, change, { node, row: completed }, doing.nowMs);
  });
}
