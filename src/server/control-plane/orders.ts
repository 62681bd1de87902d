import { QxError } from '../../errors.ts';
import type { HostOrder } from '../../format/control-plane.ts';
import type { ORDER_ROUTES, Order } from '../../format/order-routes.ts';
import { instantOf } from '../../format/schema.ts';
import type { Handlers } from '../../ports/serving.ts';
import { actorOf, record } from '../audit.ts';
import type { Maintenance } from '../maintenance/host.ts';
import type { Doing } from '../maintenance/rows.ts';
import { findNode, lockNode } from '../nodes/rows.ts';
import type { Reading } from '../store.ts';

/**
 * Orders as operators see them. What the control plane refuses it is told again for ever, and all that follows for that host waits
 * behind it: a person gives it up, and says why.
 */
export function orderHandlers(m: Maintenance): Handlers<typeof ORDER_ROUTES> {
  return {
    orders: async () => {
      const orders = await waiting(m.store.db);
      return { json: { orders, count: orders.length } };
    },
    dropOrder: async ({ body, principal }) => {
      const doing = { actor: actorOf(principal), nowMs: m.clock.nowMs() };
      return { json: { status: 'dropped', ...(await drop(m, body, doing)) } };
    },
  };
}

async function waiting(db: Reading): Promise<Order[]> {
  const rows = await db
    .selectFrom('outbox')
    .innerJoin('node', 'node.id', 'outbox.node_id')
    .selectAll('outbox')
    .select(['node.name', 'node.state'])
    .where('outbox.delivered_ms', 'is', null)
    .orderBy('outbox.created_ms')
    .orderBy('outbox.node_id')
    .orderBy('outbox.sequence')
    .execute();
  return rows.map((row) => ({
    node_id: row.state === 'revoked' ? row.node_id : row.name,
    number: row.sequence,
    kind: row.kind,
    maintenance_id: (JSON.parse(row.body) as HostOrder).maintenance_id,
    created_at: instantOf(row.created_ms),
    attempts: row.attempts,
    error: row.error,
  }));
}

interface Dropping {
  readonly node_id: string;
  readonly number: number;
  readonly reason: string;
}

/** The row stays: its number, by which the control plane knows an order again, is never given to another one. */
function drop({ store }: Maintenance, { node_id, number, reason }: Dropping, { actor, nowMs }: Doing) {
  return store.change(async (change) => {
    const { id, name } = await findNode(change, node_id);
    await lockNode(store, change, id);
    const order = await change
      .selectFrom('outbox')
      .selectAll()
      .where('node_id', '=', id)
      .where('sequence', '=', number)
      .where('delivered_ms', 'is', null)
      .executeTakeFirst();
    if (order === undefined) {
      throw new QxError(
        'NOT_FOUND',
        `no order ${number} waits for ${node_id}: it was taken, given up, or never given`,
        {
          next: 'see which wait: qx-fleet order list',
        },
      );
    }
    const given = { delivered_ms: nowMs, error: `given up by ${actor}` };
    await change.updateTable('outbox').set(given).where('node_id', '=', id).where('sequence', '=', number).execute();
    const { kind, attempts, error } = order;
    const fields = { name, number, kind, attempts, error, reason };
    await record(change, { subject: `node:${id}`, actor, event: 'order_dropped', fields, atMs: nowMs });
    return { node_id, number, kind };
  });
}
