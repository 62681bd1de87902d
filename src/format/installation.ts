import { type Static, Type } from 'typebox';
import { isCode } from '../errors.ts';
import { readVersioned } from './document.ts';

/**
 * Lies on each file system that a host keeps something on, and says by one id that they belong together. A folder without it,
 * where the others have it, is one over which nothing is mounted.
 */
const Installation = Type.Object({
  format: Type.Literal(1),
  installation: Type.String({ pattern: '^[a-z0-9]{16,32}$' }),
  /** On /quantix: the others are still being marked. */
  is_unfinished: Type.Optional(Type.Boolean()),
  /** On /quantix: what else was marked, besides the folders that every host has. */
  volumes: Type.Optional(Type.Array(Type.String())),
});
export type Installation = Static<typeof Installation>;

export const INSTALLATION_FILE = 'quantix-installation.json';
export const MAX_INSTALLATION_BYTES = 4096;

/** Without an id where it cannot be read: it is there, and that is what counts. @throws QxError STATE_TOO_NEW */
export function readInstallation(bytes: Uint8Array, path: string): Installation {
  try {
    return readVersioned(bytes, Installation, path, 'the host then says that nothing is mounted there');
  } catch (error) {
    if (isCode(error, 'STATE_INVALID')) return { format: 1, installation: '' };
    throw error;
  }
}
