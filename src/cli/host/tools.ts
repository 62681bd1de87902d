import type { Log } from '../../ports.ts';
import type { ComposedHost, HostRecords } from '../composed.ts';
import type { Stream } from '../render.ts';

/** What the verbs of qx-update reach the outside with; `cli/host.ts` fills it in from the real machine. */
export interface HostTools {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly isRoot: boolean;
  /** The host itself, for what has to work while its agent does not. */
  compose(root: string, log: Log): Promise<ComposedHost>;
  /** The little of it that needs no settings either. */
  composeRecords(root: string, log: Log): Promise<HostRecords>;
  /** All of it, for what must not be an argument. */
  stdin(): Promise<string>;
  /** Aborted by Ctrl-C. */
  interrupted(): AbortSignal;
}
