import { type Static, Type } from 'typebox';
import type { RouteTable } from './route.ts';

/** The FleetLock protocol, as Zincati and others speak it: one of them at a time may reboot, by the same budget as our hosts. */

export const FLEETLOCK_HEADER = 'fleet-lock-protocol';

export const FleetLockRequest = Type.Object({
  client_params: Type.Object({
    id: Type.String({ minLength: 1, maxLength: 128, pattern: '^[^\\s]+$' }),
    group: Type.String({ maxLength: 64, pattern: '^[a-zA-Z0-9.-]+$' }),
  }),
});
export type FleetLockRequest = Static<typeof FleetLockRequest>;

const Empty = Type.Object({});

export const FLEETLOCK_ROUTES = {
  preReboot: {
    method: 'POST',
    path: '/v1/pre-reboot',
    who: 'node-or-operator',
    summary: 'FleetLock: may I reboot? Asked again, the answer is the same',
    body: FleetLockRequest,
    dialect: 'fleetlock',
    content: 'json',
    response: Empty,
  },
  steadyState: {
    method: 'POST',
    path: '/v1/steady-state',
    who: 'node-or-operator',
    summary: 'FleetLock: I am up; another one may go',
    body: FleetLockRequest,
    dialect: 'fleetlock',
    content: 'json',
    response: Empty,
  },
} as const satisfies RouteTable;
