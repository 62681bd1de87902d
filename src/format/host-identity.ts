import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';

/**
 * Who this host is: an id that was made on it once, by chance, and the hardware that was around it. Nothing of it comes from an
 * image, and a copy of the disk is told apart by the hardware. For root alone.
 */

export const HOST_ID_PATTERN = '^[a-f0-9]{32}$';

const mark = Type.String({ minLength: 1, maxLength: 200 });
const MAX_PARTS = 256;

/** What of a machine can be told apart; null or empty where it cannot be read. */
export const Hardware = Type.Object({
  /** The system's UUID in its firmware. Templates of virtual machines repeat it. */
  uuid: Type.Union([mark, Type.Null()]),
  /** Serial number of the board. */
  board: Type.Union([mark, Type.Null()]),
  /** Addresses that network cards were made with, sorted. */
  cards: Type.Array(mark, { maxItems: MAX_PARTS }),
  /** Serial numbers of the disks that hold /quantix, sorted. */
  disks: Type.Array(mark, { maxItems: MAX_PARTS }),
});
export type Hardware = Static<typeof Hardware>;

export const HostIdentity = Type.Object({
  format: Type.Literal(1),
  id: Type.String({ pattern: HOST_ID_PATTERN }),
  hardware: Hardware,
});
export type HostIdentity = Static<typeof HostIdentity>;

export const HOST_IDENTITY_PATH = '/quantix/limiquantix/host.json';
/** What lay there when it turned out to be of another machine: gone once somebody has decided. */
export const COPIED_IDENTITY_PATH = '/quantix/limiquantix/host-copied.json';

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readHostIdentity = (bytes: Uint8Array, path: string): HostIdentity =>
  readVersioned(
    bytes,
    HostIdentity,
    path,
    'the host then has a new id, and a member of a fleet says qx-update identity keep --reason TEXT',
  );
