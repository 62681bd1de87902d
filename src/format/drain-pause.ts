import { type Static, Type } from 'typebox';
import { readVersioned } from './document.ts';
import { INSTANT_PATTERN } from './schema.ts';

/** What a host keeps of the tries to become empty that came to nothing, in a row: the next one waits. */

export const DRAIN_PAUSE_PATH = '/quantix/limiquantix/drain-pause.json';

export const DrainPause = Type.Object({
  format: Type.Literal(1),
  failures: Type.Integer({ minimum: 1 }),
  /** When the last one was given up. How long it waits is beside it: a clock that is put right changes the one, not the other. */
  at: Type.String({ pattern: INSTANT_PATTERN }),
  pause_ms: Type.Integer({ minimum: 0 }),
  reason: Type.String(),
});
export type DrainPause = Static<typeof DrainPause>;

/** @throws QxError STATE_TOO_NEW | STATE_INVALID */
export const readDrainPause = (bytes: Uint8Array): DrainPause =>
  readVersioned(bytes, DrainPause, DRAIN_PAUSE_PATH, 'the host then tries at once to become empty');
