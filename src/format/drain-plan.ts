import { type Static, Type } from 'typebox';
import { MAINTENANCE_STATES } from './maintenance.ts';

/** What would happen to the VMs of a host if it were drained now, and how long that would take. Asking changes nothing. */

/** Of one host, in VMs and in what blocks. */
const MAX_LISTED = 1000;
const name = Type.String({ minLength: 1, maxLength: 200 });
const text = Type.String({ minLength: 1, maxLength: 500 });

const plannedVm = {
  vm: name,
  target_node: Type.Union([name, Type.Null()], { description: 'the host that it would move to; null: it cannot move' }),
  reason: Type.Optional(Type.String({ ...text, description: 'why there, or why not' })),
};
const drainBlock = {
  vm: Type.Optional(Type.String({ ...name, description: 'left away when it is the host as a whole' })),
  reason: text,
};

const strict = { additionalProperties: false };
const listed = { maxItems: MAX_LISTED };

/** As a control plane answers it. A field that is not known is refused: it may be one that was meant to be known. */
export const ControlPlanePlan = Type.Object(
  {
    vms: Type.Array(Type.Object(plannedVm, strict), { ...listed, description: 'every VM of the host, once' }),
    blocks: Type.Array(Type.Object(drainBlock, strict), {
      ...listed,
      description: 'what keeps the drain from its end',
    }),
  },
  strict,
);
export type ControlPlanePlan = Static<typeof ControlPlanePlan>;

/** As the update server answers it, to hosts and operators. */
export const DrainPlan = Type.Object({
  node_id: Type.String({ description: 'name of the host' }),
  group: Type.String(),
  state: Type.Enum(MAINTENANCE_STATES, { description: 'of its latest maintenance' }),
  place: Type.Enum(['held', 'free', 'taken'], { description: 'whether it could be away now' }),
  waits_for: Type.Optional(Type.String({ description: 'of a place that is taken: what has to end first' })),
  drain_by: Type.Enum(['control-plane', 'host', 'nobody'], { description: 'who empties the host' }),
  control_plane: Type.Enum(['answered', 'failed', 'not-asked']),
  control_plane_error: Type.Optional(Type.String({ description: 'why it gave no plan' })),
  message: Type.String(),
  vms: Type.Union([Type.Array(Type.Object(plannedVm)), Type.Null()], { description: 'null: not known here' }),
  blocks: Type.Union([Type.Array(Type.Object(drainBlock)), Type.Null()], { description: 'null: not known here' }),
  expected_seconds: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()], {
    description: 'of the drain alone, once it has begun and if nothing blocks it; null: nothing to tell it from',
  }),
  past_drains: Type.Integer({ minimum: 0, description: 'from so many that is told' }),
  past_drains_of: Type.Optional(Type.Enum(['host', 'group'])),
});
export type DrainPlan = Static<typeof DrainPlan>;
