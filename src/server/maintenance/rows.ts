import { QxError } from '../../errors.ts';
import { ACTIVE_STATES, type MaintenanceEvent, nextState } from '../../format/maintenance.ts';
import { record } from '../audit.ts';
import type { Change, MaintenanceTable, Reading } from '../store.ts';

/** Maintenance as rows: found, and moved on. */

/** Who does it, and when. */
export interface Doing {
  readonly actor: string;
  readonly nowMs: number;
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

export const isActive = ({ state }: MaintenanceTable): boolean => ACTIVE_STATES.includes(state);

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
