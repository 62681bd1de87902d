import type { Stream } from '../render.ts';
import type { Program } from '../verb.ts';

/** What the verbs of qx-fleet reach the outside with, besides the server. */
export interface FleetTools {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type FleetProgram = Program<FleetTools>;
