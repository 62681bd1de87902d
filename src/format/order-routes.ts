import { type Static, Type } from 'typebox';
import type { RouteTable } from './route.ts';
import { INSTANT_PATTERN, NAME_PATTERN } from './schema.ts';

/** What the control plane has not taken yet, on the wire, and how an order is given up that it never takes. */

const instant = Type.String({ pattern: INSTANT_PATTERN });
const text = Type.String();
const node_id = Type.String({
  pattern: NAME_PATTERN,
  description: 'name of the host; id of one that was put out of the fleet, whose name another may have',
});
const number = Type.Integer({ minimum: 1, description: 'counts the orders of one host' });

export const Order = Type.Object({
  node_id,
  number,
  kind: Type.Enum(['drain', 'uncordon']),
  maintenance_id: text,
  created_at: instant,
  attempts: Type.Integer({ minimum: 0 }),
  error: Type.Union([text, Type.Null()], { description: 'why it was not taken the last time; null: not tried yet' }),
});
export type Order = Static<typeof Order>;

export const ORDER_ROUTES = {
  orders: {
    method: 'GET',
    path: '/api/v1/orders',
    who: 'viewer',
    summary: 'Orders that the control plane has not taken yet; oldest first, those of one host in their order',
    content: 'json',
    response: Type.Object({ orders: Type.Array(Order), count: Type.Integer() }),
  },
  dropOrder: {
    method: 'POST',
    path: '/api/v1/orders/drop',
    who: 'admin',
    summary: 'Give up an order that the control plane does not take; the next one of this host is sent instead',
    body: Type.Object(
      { node_id, number, reason: Type.String({ minLength: 4, maxLength: 2000 }) },
      { additionalProperties: false },
    ),
    content: 'json',
    response: Type.Object({ status: Type.Literal('dropped'), node_id, number, kind: Type.Enum(['drain', 'uncordon']) }),
  },
} as const satisfies RouteTable;
