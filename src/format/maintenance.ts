import { type Static, Type } from 'typebox';
import { NAME_PATTERN } from './schema.ts';
import { VERSION_MAX_LENGTH, VERSION_PATTERN } from './version.ts';

/** Maintenance of a host: its states, and what node, control plane and operator say about it. */

/**
 * Every transition there is. A host holds its place from `grant` on: until `complete`, until `cancel`, and after `fail` until
 * somebody has looked after it.
 */
export const MAINTENANCE = {
  none: { request: 'requested' },
  requested: { grant: 'draining', skip: 'ready', cancel: 'cancelled', fail: 'failed' },
  draining: { empty: 'ready', force: 'ready', cancel: 'cancelled', fail: 'failed' },
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
