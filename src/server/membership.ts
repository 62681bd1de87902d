import { QxError } from '../errors.ts';
import type { NodeAuthority } from '../ports/authority.ts';
import type { Clock, Log } from '../ports.ts';
import type { Store } from './store.ts';

/** Where hosts reach this server, as a join string tells them. */
export interface Reach {
  /** Of its TLS key; null: a development server without TLS. */
  readonly pin: string | null;
  /** Of the key that it will have next. */
  readonly nextPin: string | null;
  /** Null: only whoever invites knows it. */
  readonly host: string | null;
}

/** Both are there when hosts can prove who they are: over TLS, or to a development server. */
export interface Membership {
  readonly authority: NodeAuthority;
  readonly reach: Reach;
}

export interface Fleet {
  readonly store: Store;
  readonly membership: Membership | null;
  readonly clock: Clock;
  readonly log: Log;
}

export const pinsOf = ({ reach: { pin, nextPin } }: Membership): string[] =>
  [pin, nextPin].filter((one) => one !== null);

/** @throws QxError TLS_REQUIRED */
export function membershipOf({ membership }: Fleet): Membership {
  if (membership !== null) return membership;
  throw new QxError('TLS_REQUIRED', 'this server has no certificate, so no host could know that it is the right one', {
    next: 'set TLS_CERT and TLS_KEY of the server',
  });
}
