import { type Static, Type } from 'typebox';
import { MAINTENANCE_STATES } from './maintenance.ts';
import type { RouteTable } from './route.ts';
import { INSTANT_PATTERN } from './schema.ts';

/** Who may be away from the fleet at this moment, on the wire, and how a place comes back whose holder does not. */

const instant = Type.String({ pattern: INSTANT_PATTERN });
export const HOLDER_PATTERN = '^[!-~]{1,300}$';
const holder = Type.String({
  pattern: HOLDER_PATTERN,
  description: 'name of the host, or fleetlock:GROUP/ID of one that asks by FleetLock',
});
const text = Type.String();

export const Place = Type.Object({
  holder,
  kind: Type.Enum(['host', 'fleetlock']),
  group: text,
  domains: Type.Array(text, { description: 'what it counts in' }),
  since: instant,
  last_heard: Type.Union([instant, Type.Null()], {
    description: 'when its holder last said something; null: not since it got the place',
  }),
  state: Type.Union([Type.Enum(MAINTENANCE_STATES), Type.Null()], { description: 'of the maintenance of a host' }),
  asked_by: Type.Union([text, Type.Null()], { description: 'who asked for it by FleetLock' }),
});
export type Place = Static<typeof Place>;

export const PLACE_ROUTES = {
  places: {
    method: 'GET',
    path: '/api/v1/places',
    who: 'viewer',
    summary: 'Who holds a place, since when, and when it was last heard of; longest first',
    content: 'json',
    response: Type.Object({ places: Type.Array(Place), count: Type.Integer() }),
  },
  releasePlace: {
    method: 'POST',
    path: '/api/v1/places/release',
    who: 'admin',
    summary: 'Give back the place of a host that does not do so itself, whatever it had begun',
    body: Type.Object(
      { holder, reason: Type.String({ minLength: 4, maxLength: 2000 }) },
      { additionalProperties: false },
    ),
    content: 'json',
    response: Type.Object({ status: Type.Literal('released'), holder }),
  },
} as const satisfies RouteTable;
