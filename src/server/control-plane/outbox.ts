import type { HostOrder, PlanRequest } from '../../format/control-plane.ts';
import type { Change, MaintenanceTable, NodeTable, OutboxTable, Reading, Store } from '../store.ts';

/**
 * What the control plane has to be told. It is kept in the transaction that decided it, so that nothing is lost when either side
 * is down; what concerns one host goes out in order. Who sends it is `server/control-plane.ts`.
 */

export async function tellControlPlane(
  change: Change,
  node: NodeTable,
  row: MaintenanceTable,
  kind: OutboxTable['kind'],
  nowMs: number,
): Promise<void> {
  const last = await change
    .selectFrom('outbox')
    .select('sequence')
    .where('node_id', '=', node.id)
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst();
  const order: HostOrder = {
    ...(await identityOf(change, node)),
    maintenance_id: row.id,
    epoch: row.epoch,
    target_version: row.target_version,
  };
  const sequence = (last?.sequence ?? 0) + 1;
  const fresh = { created_ms: nowMs, due_ms: 0, attempts: 0, delivered_ms: null, error: null };
  const message = { node_id: node.id, sequence, kind, body: JSON.stringify(order), ...fresh };
  await change.insertInto('outbox').values(message).execute();
}

/** Under which the control plane knows a host, or can come to know it. */
export async function identityOf(db: Reading | Change, { id, name }: NodeTable): Promise<PlanRequest> {
  const certificate = await db
    .selectFrom('node_certificate')
    .select('fingerprint')
    .where('node_id', '=', id)
    .orderBy('not_after_ms', 'desc')
    .limit(1)
    .executeTakeFirst();
  return { node_id: name, node_uuid: id, certificate_fingerprint: certificate?.fingerprint ?? null };
}

/** Why a host's next message did not arrive yet; null when there is none, or it was not tried. */
export async function undelivered(db: Reading, nodeId: string): Promise<string | null> {
  const head = await db
    .selectFrom('outbox')
    .select('error')
    .where('node_id', '=', nodeId)
    .where('delivered_ms', 'is', null)
    .orderBy('sequence')
    .limit(1)
    .executeTakeFirst();
  return head?.error ?? null;
}

const AT_ONCE = 16;
/** A server that dies in the middle leaves its message to the others after so long. */
const LEASE_MS = 60_000;

/** Each is busy with its own: two servers never send the same one at the same time. */
export function claimDue(store: Store, nowMs: number): Promise<readonly OutboxTable[]> {
  return store.change(async (change) => {
    const heads = change
      .selectFrom('outbox as o')
      .selectAll('o')
      .where('o.delivered_ms', 'is', null)
      .where('o.due_ms', '<=', nowMs)
      .where(({ not, exists, selectFrom }) =>
        not(
          exists(
            selectFrom('outbox as before')
              .select('before.sequence')
              .whereRef('before.node_id', '=', 'o.node_id')
              .whereRef('before.sequence', '<', 'o.sequence')
              .where('before.delivered_ms', 'is', null),
          ),
        ),
      )
      .orderBy('o.due_ms')
      .limit(AT_ONCE);
    const due = await (store.engine === 'postgres' ? heads.forUpdate().skipLocked() : heads).execute();
    for (const { node_id, sequence } of due) {
      const taken = { due_ms: nowMs + LEASE_MS };
      await change
        .updateTable('outbox')
        .set(taken)
        .where('node_id', '=', node_id)
        .where('sequence', '=', sequence)
        .execute();
    }
    return due;
  });
}

/** How an attempt to deliver a message ended. */
export interface Attempt {
  readonly message: OutboxTable;
  readonly outcome: Pick<OutboxTable, 'attempts' | 'error'> & Partial<Pick<OutboxTable, 'due_ms' | 'delivered_ms'>>;
}

export const settle = (store: Store, attempts: readonly Attempt[]): Promise<void> =>
  store.change(async (change) => {
    for (const { message, outcome } of attempts) {
      await change
        .updateTable('outbox')
        .set(outcome)
        .where('node_id', '=', message.node_id)
        .where('sequence', '=', message.sequence)
        .execute();
    }
  });
