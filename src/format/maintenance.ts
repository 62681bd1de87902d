import { type Static, Type } from 'typebox';
import { INSTANT_PATTERN } from './schema.ts';
import { VERSION_MAX_LENGTH, VERSION_PATTERN } from './version.ts';

/** Maintenance of a host: its states, and what host, control plane and operator say about it. */

/**
 * Every transition there is. A host holds its place from `grant` on: until `complete`, until `cancel`, and after a `fail` of
 * what it had begun until somebody has looked after it. A drain that fails has begun nothing: the place is free again.
 */
export const MAINTENANCE = {
  none: { request: 'requested' },
  requested: { grant: 'draining', skip: 'ready', cancel: 'cancelled', fail: 'failed' },
  draining: { empty: 'ready', force: 'ready', lapse: 'draining', cancel: 'cancelled', fail: 'failed' },
  ready: {
    lapse: 'draining',
    update: 'updating',
    reboot: 'rebooting',
    complete: 'completed',
    cancel: 'cancelled',
    fail: 'failed',
  },
  updating: { reboot: 'rebooting', verify: 'verifying', complete: 'completed', fail: 'failed' },
  rebooting: { verify: 'verifying', complete: 'completed', fail: 'failed' },
  verifying: { complete: 'completed', fail: 'failed' },
  completed: {},
  failed: {},
  cancelled: {},
} as const;

export type MaintenanceState = keyof typeof MAINTENANCE;
export type MaintenanceEvent = { [S in MaintenanceState]: keyof (typeof MAINTENANCE)[S] }[MaintenanceState];

export const MAINTENANCE_STATES = Object.keys(MAINTENANCE) as MaintenanceState[];

const isTerminal = (state: MaintenanceState): boolean => Object.keys(MAINTENANCE[state]).length === 0;
export const ACTIVE_STATES = MAINTENANCE_STATES.filter((state) => state !== 'none' && !isTerminal(state));

/** Null: there is no such transition. */
export const nextState = (state: MaintenanceState, event: MaintenanceEvent): MaintenanceState | null =>
  (MAINTENANCE[state] as Partial<Record<MaintenanceEvent, MaintenanceState>>)[event] ?? null;

const version = Type.String({ pattern: VERSION_PATTERN, maxLength: VERSION_MAX_LENGTH });
const id = Type.String({ minLength: 1, maxLength: 64, pattern: '^[a-z0-9._-]+$' });
const instant = Type.String({ pattern: INSTANT_PATTERN });
const count = Type.Integer({ minimum: 0, maximum: 1_000_000 });
const vm = Type.String({ minLength: 1, maxLength: 200 });
const text = Type.String({ maxLength: 2000 });
const MAX_VMS = 10_000;

const nodeId = Type.String({ ...id, description: 'name of the host, or its UUID' });
const MaintenanceId = Type.String({ ...id, description: 'of this maintenance of the host' });
const token = Type.Integer({
  minimum: 1,
  description: 'fencing token: grows with each drain of the host; one of an earlier drain counts for nothing',
});

export const OfNode = Type.Object({ nodeId: Type.String({ ...id, description: 'name or UUID of the host' }) });
export const OfNodeOrMaintenance = Type.Object({
  nodeId: Type.String({ ...id, description: 'name or UUID of the host, or id of a maintenance' }),
});

export const MaintenanceRequest = Type.Object({
  node_id: nodeId,
  target_version: version,
  update_type: Type.Enum(['component', 'full']),
  requires_reboot: Type.Optional(Type.Boolean({ description: 'default: whether update_type is full' })),
  force: Type.Optional(Type.Boolean({ description: 'refused: an admin forces, with a reason' })),
});
export type MaintenanceRequest = Static<typeof MaintenanceRequest>;

const FailedVm = Type.Object({ vm, reason: Type.Optional(text) });

/** A control plane that names its failed VMs only is understood as well. */
export const DrainProgress = Type.Object({
  node_id: nodeId,
  maintenance_id: Type.Optional(MaintenanceId),
  epoch: Type.Integer({ minimum: 1, description: 'as the drain request had it' }),
  total_vms: count,
  migrated_vms: count,
  failed_vms: Type.Optional(Type.Array(Type.Union([vm, FailedVm]), { maxItems: MAX_VMS })),
  remaining_vms: Type.Optional(Type.Array(vm, { maxItems: MAX_VMS })),
  completed: Type.Boolean({ description: 'the host is empty, and nothing new will start on it' }),
  error: Type.Optional(text),
});
export type DrainProgress = Static<typeof DrainProgress>;

/** What a host says that it does next, inside its grant. */
export const STEPS = { updating: 'update', rebooting: 'reboot', verifying: 'verify' } as const;

export const MaintenanceStep = Type.Object({
  node_id: nodeId,
  maintenance_id: MaintenanceId,
  fencing_token: token,
  state: Type.Enum(['updating', 'rebooting', 'verifying']),
});
export type MaintenanceStep = Static<typeof MaintenanceStep>;

export const MaintenanceComplete = Type.Object({
  node_id: nodeId,
  maintenance_id: Type.Optional(MaintenanceId),
  success: Type.Boolean(),
  error: Type.Optional(text),
  untouched: Type.Optional(
    Type.Boolean({ description: 'with success false: the host never went down, and gives its place back' }),
  ),
  version: Type.Optional(Type.String({ ...version, description: 'what the host runs now' })),
});
export type MaintenanceComplete = Static<typeof MaintenanceComplete>;

export const ForceReason = Type.Object({ reason: Type.String({ minLength: 4, maxLength: 2000 }) });

/** The answer of every maintenance route that is about one host. */
export const MaintenanceStatus = Type.Object({
  node_id: Type.String({ description: 'name of the host' }),
  maintenance_id: Type.Union([Type.String(), Type.Null()]),
  state: Type.Enum(MAINTENANCE_STATES),
  approved: Type.Boolean({ description: 'it holds its place, or needs none' }),
  proceed_now: Type.Boolean({ description: 'empty and granted until expires_at: it may update and reboot' }),
  message: Type.String(),
  wait_seconds: Type.Optional(Type.Integer({ minimum: 1, description: 'ask again after so long' })),
  group: Type.String(),
  holds_place: Type.Boolean(),
  drain_by: Type.Enum(['control-plane', 'host', 'nobody'], { description: 'who empties the host' }),
  conflict: Type.Optional(
    Type.String({ description: 'two machines speak as this host: nothing is granted to either' }),
  ),
  fencing_token: Type.Optional(token),
  expires_at: Type.Optional(instant),
  target_version: Type.Union([version, Type.Null()]),
  update_type: Type.Union([Type.Enum(['component', 'full']), Type.Null()]),
  requires_reboot: Type.Boolean(),
  total_vms: count,
  migrated_vms: count,
  vms_remaining: count,
  remaining_vms: Type.Array(vm),
  failed_vms: Type.Array(FailedVm),
  requested_at: Type.Optional(instant),
  draining_started: Type.Optional(instant),
  ready_at: Type.Optional(instant),
  update_started: Type.Optional(instant),
  completed_at: Type.Optional(instant),
  error_message: Type.Optional(Type.String()),
});
export type MaintenanceStatus = Static<typeof MaintenanceStatus>;
