import { type Static, Type } from 'typebox';
import type { RouteTable } from './route.ts';

/**
 * What a control plane implements, which moves VMs: the update server calls these, and is called back on
 * `/api/v1/maintenance/drain-progress`. Every call may come more than once, with the same `webhook-id`; those about one host
 * come in order. They are signed as Standard Webhooks describes: HMAC-SHA256 over `ID.TIMESTAMP.BODY`.
 */

/** The order to cordon and empty a host, and the word that it may carry VMs again. */
export const HostOrder = Type.Object({
  node_id: Type.String({ description: 'name of the host' }),
  node_uuid: Type.String(),
  certificate_fingerprint: Type.Union([Type.String(), Type.Null()], {
    description: 'SHA-256 of the certificate under which the host asked: it is whom it says it is',
  }),
  maintenance_id: Type.String(),
  epoch: Type.Integer({ minimum: 1, description: 'of this drain; progress is reported with it' }),
  target_version: Type.String(),
});
export type HostOrder = Static<typeof HostOrder>;

const ofNode = Type.Object({ node_id: Type.String() });
const Taken = Type.Object({}, { description: 'Taken; whatever it says is not read' });

export const CONTROL_PLANE_ROUTES = {
  drain: {
    method: 'POST',
    path: '/nodes/{node_id}/drain',
    who: 'open',
    summary: 'Let nothing new start on the host, move its VMs away, and report how far that has come until it is empty',
    params: ofNode,
    body: HostOrder,
    content: 'json',
    response: Taken,
    status: 202,
  },
  uncordon: {
    method: 'POST',
    path: '/nodes/{node_id}/uncordon',
    who: 'open',
    summary: 'The host may carry VMs again; a drain of it that is under way is given up',
    params: ofNode,
    body: HostOrder,
    content: 'json',
    response: Taken,
    status: 202,
  },
} as const satisfies RouteTable;
