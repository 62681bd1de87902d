import { type Static, Type } from 'typebox';
import { ControlPlanePlan } from './drain-plan.ts';
import type { RouteTable } from './route.ts';

/**
 * What a control plane implements, which moves VMs: the update server calls these, and is called back on
 * `/api/v1/maintenance/drain-progress`. Every order may come more than once, with the same `webhook-id`; those about one host
 * come in order. A plan is asked for beside them, and is no order. All are signed as Standard Webhooks describes: HMAC-SHA256
 * over `ID.TIMESTAMP.BODY`.
 */

const node = {
  node_id: Type.String({ description: 'name of the host' }),
  node_uuid: Type.String(),
};
const fingerprint = (description: string) => Type.Union([Type.String(), Type.Null()], { description });

/** The order to cordon and empty a host, and the word that it may carry VMs again. */
export const HostOrder = Type.Object({
  ...node,
  certificate_fingerprint: fingerprint(
    'SHA-256 of the certificate under which the host asked: it is whom it says it is',
  ),
  maintenance_id: Type.String(),
  epoch: Type.Integer({ minimum: 1, description: 'of this drain; progress is reported with it' }),
  target_version: Type.String(),
});
export type HostOrder = Static<typeof HostOrder>;

/** Which host a plan is about. */
export const PlanRequest = Type.Object({
  ...node,
  certificate_fingerprint: fingerprint('SHA-256 of the latest certificate of the host'),
});
export type PlanRequest = Static<typeof PlanRequest>;

/** Of the answer to a plan request. */
export const PLAN_MAX_BYTES = 512 << 10;
export const PLAN_WITHIN_MS = 10_000;

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
  drainPlan: {
    method: 'POST',
    path: '/nodes/{node_id}/drain-plan',
    who: 'open',
    summary: `Which VM would move where if the host were drained now, and what blocks; nothing is changed. Within ${PLAN_WITHIN_MS / 1000} s, in ${PLAN_MAX_BYTES >> 10} KiB; 404 where no plans are made`,
    params: ofNode,
    body: PlanRequest,
    content: 'json',
    response: ControlPlanePlan,
  },
} as const satisfies RouteTable;
