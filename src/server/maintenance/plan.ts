import { sql } from 'kysely';
import { DRAINS_REMEMBERED, type ExpectedDrain, expectedDrain, type PastDrain } from '../../core/drain-time.ts';
import { asQxError, QxError } from '../../errors.ts';
import type { ControlPlanePlan, DrainPlan } from '../../format/drain-plan.ts';
import { oneLine } from '../../format/text.ts';
import type { Log } from '../../ports.ts';
import { identityOf } from '../control-plane/outbox.ts';
import { askDrainPlan } from '../control-plane/plan.ts';
import type { ControlPlane } from '../control-plane/signed.ts';
import { INVITE_AGAIN } from '../identity.ts';
import { findNode } from '../nodes/rows.ts';
import { holdsPlace } from '../places.ts';
import type { NodeTable, Reading } from '../store.ts';
import { holderOf } from './grants.ts';
import { type Maintenance, waitsFor } from './host.ts';
import { latestOf } from './rows.ts';

/** What a drain would do, told without one. Nothing is written, and whoever does not answer is waited for only so long. */

export interface Planning {
  /** Null: each host empties itself. */
  readonly controlPlane: ControlPlane | null;
  readonly log: Log;
}

/** @throws QxError NODE_UNKNOWN | NODE_REVOKED | APPROVAL_PENDING */
export async function drainPlanOf(
  m: Maintenance,
  planning: Planning,
  nodeId: string,
  signal: AbortSignal,
): Promise<DrainPlan> {
  const { db } = m.store;
  const node = expectMember(await findNode(db, nodeId));
  const drain_by = node.carries_vms === 0 ? 'nobody' : m.drainBy;
  const [row, place] = [await latestOf(db, node.id), await placeOf(db, node)];
  const known = await knownOf(m, planning, node, signal);
  const expected = known.vms?.length === 0 ? AT_ONCE : await expectedOf(db, node, known.vms?.length ?? null);
  return {
    node_id: node.name,
    group: node.fleet_group,
    state: row?.state ?? 'none',
    ...place,
    drain_by,
    ...known,
    ...expected,
  };
}

/** Nothing is drained that does not belong to the fleet, and another host may go by the name of one that was put out of it. */
function expectMember(node: NodeTable): NodeTable {
  if (node.state === 'enrolled') return node;
  if (node.state === 'revoked')
    throw new QxError('NODE_REVOKED', `${node.name} was put out of the fleet`, { next: INVITE_AGAIN });
  throw new QxError('APPROVAL_PENDING', `${node.name} waits for an operator to approve it`, {
    next: `qx-fleet node approve ${node.name} --fingerprint KEY`,
  });
}

async function placeOf(db: Reading, node: NodeTable): Promise<Pick<DrainPlan, 'place' | 'waits_for'>> {
  if (await holdsPlace(db, holderOf(node.id))) return { place: 'held' };
  const waits_for = await waitsFor(db, node);
  return waits_for === null ? { place: 'free' } : { place: 'taken', waits_for };
}

type Known = Pick<DrainPlan, 'control_plane' | 'control_plane_error' | 'message' | 'vms' | 'blocks'>;

async function knownOf(
  m: Maintenance,
  { controlPlane, log }: Planning,
  node: NodeTable,
  signal: AbortSignal,
): Promise<Known> {
  if (node.carries_vms === 0) {
    return { control_plane: 'not-asked', message: 'It carries no VMs: nothing has to move', vms: [], blocks: [] };
  }
  if (controlPlane === null) {
    const message = 'The host empties itself: what moves where is not known here';
    return { control_plane: 'not-asked', message, vms: null, blocks: null };
  }
  const host = await identityOf(m.store.db, node);
  try {
    const plan = await askDrainPlan(controlPlane, host, { id: `plan-${m.random.id()}`, signal });
    return { control_plane: 'answered', message: summary(plan), ...plan };
  } catch (error) {
    const { code, message } = asQxError(error);
    // It may quote the control plane.
    const control_plane_error = oneLine(message.slice(0, MAX_ERROR_LENGTH));
    log.warn('control_plane_gave_no_plan', { node_id: node.name, code, detail: control_plane_error });
    const told = `The control plane gave no plan: ${control_plane_error}`;
    return { control_plane: 'failed', control_plane_error, message: told, vms: null, blocks: null };
  }
}

const MAX_ERROR_LENGTH = 500;

function summary({ vms, blocks }: ControlPlanePlan): string {
  const stay = vms.filter(({ target_node }) => target_node === null).length;
  if (vms.length === 0 && blocks.length === 0) return 'It is empty: nothing has to move';
  const counts = `${vms.length - stay} of ${vms.length} VMs would move`;
  return stay === 0 && blocks.length === 0 ? counts : `${counts}; it does not become empty before what blocks is gone`;
}

type Expected = Pick<DrainPlan, 'expected_seconds' | 'past_drains' | 'past_drains_of'>;
const AT_ONCE: Expected = { expected_seconds: 0, past_drains: 0 };

async function expectedOf(db: Reading, node: NodeTable, vms: number | null): Promise<Expected> {
  const ofHost = await pastDrains(db, ['node_id', node.id]);
  const ofGroup = ofHost.length > 0 ? [] : await pastDrains(db, ['fleet_group', node.fleet_group]);
  const expected: ExpectedDrain | null = expectedDrain({ ofHost, ofGroup }, vms);
  if (expected === null) return { expected_seconds: null, past_drains: 0 };
  return { expected_seconds: expected.seconds, past_drains: expected.drains, past_drains_of: expected.of };
}

/**
 * Those that moved VMs, and all of them: one that was forced did not end by itself, and one without VMs tells nothing of them.
 * Its conditions are those of the index `maintenance_drained`.
 */
async function pastDrains(
  db: Reading,
  [column, value]: readonly ['node_id' | 'fleet_group', string],
): Promise<readonly PastDrain[]> {
  const rows = await db
    .selectFrom('maintenance')
    .select(['draining_ms', 'ready_ms', 'total_vms'])
    .where(column, '=', value)
    .where('total_vms', '>', sql.lit(0))
    .whereRef('migrated_vms', '=', 'total_vms')
    // Clocks step.
    .whereRef('ready_ms', '>=', 'draining_ms')
    .orderBy(column === 'node_id' ? 'ordinal' : 'ready_ms', 'desc')
    .limit(DRAINS_REMEMBERED)
    .execute();
  return rows.map(({ draining_ms, ready_ms, total_vms }) => ({
    durationMs: (ready_ms ?? 0) - (draining_ms ?? 0),
    vms: total_vms,
  }));
}
