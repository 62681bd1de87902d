import type { Outlook } from '../../format/agent-documents.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import type { Grant } from '../../ports/offer.ts';
import type { DrainState } from './drain.ts';

/** Whoever sees to it that not too many hosts are away at once, as this host asks him. */

/** What this host wants to be allowed. */
export interface Wish {
  readonly version: string;
  readonly updateType: HostMaintenance['update_type'];
  /** False: where it falls to this host to empty itself, it cannot. */
  readonly canEmptyItself: boolean;
}

export type Standing =
  | { readonly kind: 'go' }
  /** It has its place, and empties itself if it can. */
  | { readonly kind: 'drain' }
  | { readonly kind: 'wait'; readonly reason: string; readonly retryAfterMs?: number }
  /** Its drain came to nothing, and its place is gone. */
  | { readonly kind: 'given up'; readonly reason: string };

export interface Coordinator {
  readonly by: HostMaintenance['by'];
  /** What the record has to know before anything is asked for. */
  readonly atFirst?: () => Promise<Partial<HostMaintenance>>;
  /** Asked again, the answer is where this host stands now. What it has to remember goes into the record. */
  ask(wish: Wish): Promise<Standing>;
  /** How far its own drain has come. */
  drained(state: DrainState): Promise<Standing>;
  /** What its server would do; null: this host empties itself, or is empty. */
  plan(): Promise<Outlook | null>;
  /** The last question before the reboot. */
  begin(record: HostMaintenance): Promise<Grant>;
  /** The host is up again, and looks at its health. */
  verifying(record: HostMaintenance): Promise<void>;
  /** How it ended; heard once this returns. `took back`: nothing was begun, or it was given up before. */
  end(record: HostMaintenance, how: 'complete' | 'failed' | 'took back', detail?: string): Promise<Ended>;
  /** Of one that failed: whether somebody has looked after it, here (`isDismissed`) or there; its place is free again then. */
  isForgiven(record: HostMaintenance, isDismissed: boolean): Promise<boolean>;
}

/** `over`: the place is free again. `kept`: it stays taken until somebody has looked after this host. */
export type Ended = 'over' | 'kept';

/** Nobody is asked: this host stands alone. */
export const nobody: Coordinator = {
  by: 'nobody',
  ask: async () => ({ kind: 'drain' }),
  drained: async (state) => afterDrain(state),
  plan: async () => null,
  begin: async () => ({ granted: true }),
  verifying: async () => undefined,
  end: async () => 'over',
  isForgiven: async () => true,
};

/** What the state of its own drain means where nobody else has to hear it. */
export const afterDrain = (state: DrainState): Standing =>
  state.isEmpty ? { kind: 'go' } : { kind: 'wait', reason: drainInWords(state) };

export const drainInWords = ({ remaining, totalVms, failure }: DrainState): string =>
  failure === null
    ? `this host is being emptied: ${totalVms - remaining.length} of ${totalVms} VMs are gone`
    : `this host could not be emptied, and is tried again: ${failure}`;
