import { QxError } from '../../errors.ts';
import { type MaintenanceEvent, nextState } from '../../format/maintenance.ts';
import type { Principal } from '../../ports/serving.ts';
import { record } from '../audit.ts';
import { type Change, locked, type MaintenanceTable, type NodeTable, type Reading, type Store } from '../store.ts';

/** Hosts and their maintenance as rows: found, locked and moved on. */

/** Who does it, and when. */
export interface Doing {
  readonly actor: string;
  readonly nowMs: number;
}

export function actorOf(principal: Principal | null): string {
  if (principal === null) return 'nobody';
  if (principal.kind === 'control-plane') return 'control-plane';
  return principal.kind === 'node' ? `node ${principal.name}` : `${principal.role} ${principal.name}`;
}

/** By name or UUID; revoked ones by their UUID only. @throws QxError NODE_UNKNOWN */
export async function findNode(db: Reading | Change, nameOrId: string): Promise<NodeTable> {
  const found = await db
    .selectFrom('node')
    .selectAll()
    .where(({ or, and, eb }) =>
      or([eb('id', '=', nameOrId), and([eb('name', '=', nameOrId), eb('state', '!=', 'revoked')])]),
    )
    .executeTakeFirst();
  if (found !== undefined) return found;
  throw new QxError('NODE_UNKNOWN', `there is no host ${nameOrId}`, { next: 'qx-fleet node list' });
}

/** Whatever changes a host's maintenance holds its row: two that do are one after the other. */
export async function lockNode(store: Pick<Store, 'engine'>, change: Change, id: string): Promise<NodeTable> {
  return locked(store, change.selectFrom('node').selectAll().where('id', '=', id)).executeTakeFirstOrThrow();
}

/** The latest of a host, whether it is over or not. */
export const latestOf = (db: Reading | Change, nodeId: string): Promise<MaintenanceTable | undefined> =>
  db
    .selectFrom('maintenance')
    .selectAll()
    .where('node_id', '=', nodeId)
    .orderBy('ordinal', 'desc')
    .limit(1)
    .executeTakeFirst();

/** The one way in which a state changes, with its row in the audit trail. @throws QxError ILLEGAL_TRANSITION */
export async function move(
  change: Change,
  row: MaintenanceTable,
  event: MaintenanceEvent,
  { actor, nowMs }: Doing,
  also: Partial<MaintenanceTable> & { readonly reason?: string } = {},
): Promise<MaintenanceTable> {
  const state = nextState(row.state, event);
  if (state === null) throw new QxError('ILLEGAL_TRANSITION', `a maintenance that is ${row.state} knows no ${event}`);
  const { reason, ...columns } = also;
  const moved = { ...row, ...columns, state };
  await change
    .updateTable('maintenance')
    .set({ ...columns, state })
    .where('id', '=', row.id)
    .execute();
  const fields = { maintenance_id: row.id, from: row.state, epoch: moved.epoch };
  const why = {
    ...(reason === undefined ? {} : { reason }),
    ...(columns.error == null ? {} : { error: columns.error }),
  };
  const event_ = { subject: `node:${row.node_id}`, actor, event: `maintenance_${state}`, atMs: nowMs };
  await record(change, { ...event_, fields: { ...fields, ...why } });
  return moved;
}
