import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';
import { MAX_PINS, Pin } from './fleet-routes.ts';
import { HOST_ID_PATTERN } from './host-identity.ts';
import { INVITE_PATTERN } from './invitation.ts';
import { NAME_PATTERN } from './schema.ts';

/** What a host keeps of the fleet that it belongs to. Each document holds a private key: they are for root alone. */

const server = {
  format: Type.Literal(1),
  /** Where the fleet is asked: `https://updates.example:9000`. */
  server: Type.String(),
  /** Base64url SHA-256 of the server's public key; null for a development server without TLS. */
  pin: Type.Union([Type.String(), Type.Null()]),
  /** PKCS #8, PEM. */
  private_key: Type.String(),
  /** The id of the host that the key was made on. A copy of the disk has another one, and nothing to do with this key. */
  host_id: Type.Optional(Type.String({ pattern: HOST_ID_PATTERN })),
};

/** Of a host that has asked to be let in, and may ask again with the same key. */
export const Enrolling = Type.Object({ ...server, invite: Type.String({ pattern: INVITE_PATTERN }) });
export type Enrolling = Static<typeof Enrolling>;

export const Membership = Type.Object({
  ...server,
  /** Its name in the fleet, and the id that the server gave it. */
  node_id: Type.String({ pattern: NAME_PATTERN }),
  id: Type.String(),
  /** PEM. */
  certificate: Type.String(),
  /** Of the server, as it said itself: that of `pin`, and of the key that it will have next. */
  pins: Type.Optional(Type.Array(Pin, { maxItems: MAX_PINS })),
  not_after: Type.String(),
  renew_after: Type.String(),
});
export type Membership = Static<typeof Membership>;

export const MEMBERSHIP_PATH = '/quantix/limiquantix/fleet.json';
export const ENROLLING_PATH = '/quantix/limiquantix/fleet-enrolling.json';

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readMembership = (bytes: Uint8Array): Membership =>
  readVersioned(bytes, Membership, MEMBERSHIP_PATH, 'the host is then in no fleet, and has to be invited again');

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readEnrolling = (bytes: Uint8Array): Enrolling =>
  readVersioned(bytes, Enrolling, ENROLLING_PATH, 'the host then has to be invited again');
