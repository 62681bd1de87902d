import type { Outlook } from '../format/agent-documents.ts';
import type { Channel, Product } from '../format/manifest.ts';

/** What a host asks before it acts, and whom it tells how it went. */

export interface ReleaseRef {
  readonly product: Product;
  readonly channel: Channel;
  readonly version: string;
}

export type Grant =
  | { readonly granted: true }
  | { readonly granted: false; readonly reason: string; readonly retryAfterMs?: number };

/**
 * "May I?", asked immediately before acting. A fleet's answer comes from its server, a host that stands alone asks its own
 * windows and inhibitors. The answer can delay; it can never name bytes.
 */
export interface Offer {
  /** `needsReboot`: that is asked for on its own, once the bytes are on the slot. */
  mayApply(release: ReleaseRef, needsReboot: boolean): Promise<Grant>;
  /** To be asked again and again until it is granted: asking is what makes the host wait for its turn, and be emptied. */
  mayReboot(release: ReleaseRef | null): Promise<Grant>;
  /** The last question: once granted, the reboot follows, and nobody can call it off any more. */
  beginReboot(): Promise<Grant>;
}

/** What this host owes whoever grants its maintenance, apart from its questions. */
export interface Duties {
  /** To be called again and again. */
  tick(): Promise<void>;
  /** Somebody orders the reboot: a pause after a drain that came to nothing does not count against it. */
  tryNow(): Promise<void>;
  /** What would become of the VMs here before a reboot; null: of none is anything known, and nobody is asked. */
  outlook(): Promise<Outlook | null>;
  /** Why the last question was answered by no; null when it was not. */
  waitsFor(): string | null;
  stop(): Promise<void>;
}

export interface Outcome {
  readonly id: string;
  readonly release: ReleaseRef;
  readonly result: 'complete' | 'rolled_back' | 'failed';
  readonly at: string;
  readonly code?: string;
  readonly detail?: string;
}

/** Where the outcome of an update goes. Must never fail the update; what is told survives a crash until it was heard. */
export interface Report {
  outcome(outcome: Outcome): Promise<void>;
}
