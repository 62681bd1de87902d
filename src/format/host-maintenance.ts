import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';
import { INSTANT_PATTERN } from './schema.ts';

/** What a host remembers of the maintenance that it asked for, until whoever granted it has heard how it ended. */

export const HOST_MAINTENANCE_PATH = '/quantix/limiquantix/maintenance.json';

export const HostMaintenance = Type.Object({
  format: Type.Literal(1),
  /** Who gives out the places: the server of the fleet, another FleetLock server, or nobody. */
  by: Type.Enum(['fleet', 'fleetlock', 'nobody']),
  /** `reboot`: nothing is updated by it. */
  update_type: Type.Enum(['full', 'component', 'reboot']),
  target_version: Type.String(),
  /** The id by which a FleetLock server knows its place; without one, it is that of an agent which knew no id of its own. */
  lock_id: Type.Optional(Type.String()),
  /** Of the fleet's server. */
  maintenance_id: Type.Optional(Type.String()),
  fencing_token: Type.Optional(Type.Integer({ minimum: 1 })),
  /** Where the lock was taken: the settings may name another server, or none, by the time it is given back. */
  fleetlock: Type.Optional(
    Type.Object({ url: Type.String(), group: Type.String(), login: Type.Union([Type.String(), Type.Null()]) }),
  ),
  /** Since when it has its place, and is to become empty. */
  since: Type.Optional(Type.String({ pattern: INSTANT_PATTERN })),
  /** The programs in drain.d were told to empty this host, and have to be told when that is over. */
  is_drained: Type.Optional(Type.Boolean()),
  /** As many VMs ran here at most since then; an agent that is started anew in the middle finds fewer. */
  total_vms: Type.Optional(Type.Integer({ minimum: 0 })),
  /** From here on only the outcome ends it. */
  is_rebooting: Type.Optional(Type.Boolean()),
  /** When that reboot was first begun. */
  rebooting_since: Type.Optional(Type.String({ pattern: INSTANT_PATTERN })),
  /** The update failed: the place stays taken until somebody has looked after this host. */
  has_failed: Type.Optional(Type.Boolean()),
});
export type HostMaintenance = Static<typeof HostMaintenance>;

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readHostMaintenance = (bytes: Uint8Array): HostMaintenance =>
  readVersioned(
    bytes,
    HostMaintenance,
    HOST_MAINTENANCE_PATH,
    'whoever granted a maintenance to this host has to be told by hand that it is over',
  );
