import { createHash } from 'node:crypto';
import { createGuesses } from '../core/guesses.ts';
import { QxError } from '../errors.ts';
import type { Denial } from '../ports/serving.ts';
import type { Clock } from '../ports.ts';

/** What everybody hears who shows a wrong secret, and how he is slowed down. */

export interface Guard {
  /** Null: may try now. Asked again once the right secret was looked up, since many guesses can be under way at once. */
  mustWait(address: string): Denial | null;
  wrong(address: string): void;
  right(address: string): void;
}

export function createGuard(clock: Clock): Guard {
  const guesses = createGuesses();
  return {
    mustWait: (address) => {
      const waitMs = guesses.waitMs(address, clock.monotonicMs());
      return waitMs > 0 ? tellToWait(waitMs) : null;
    },
    wrong: (address) => guesses.wrong(address, clock.monotonicMs()),
    right: (address) => guesses.right(address),
  };
}

function tellToWait(waitMs: number): Denial {
  const seconds = Math.ceil(waitMs / 1000);
  return {
    refused: new QxError('TOO_MANY_ATTEMPTS', `too many wrong tokens; wait ${seconds} s`),
    headers: { 'retry-after': String(seconds) },
  };
}

export const refuseToken = (code: 'TOKEN_REQUIRED' | 'TOKEN_REFUSED', detail: string): Denial => ({
  refused: new QxError(code, detail, { next: 'send the header Authorization: Bearer TOKEN' }),
  headers: { 'www-authenticate': 'Bearer' },
});

export const digest = (text: string | Uint8Array): Buffer => createHash('sha256').update(text).digest();

/** As secrets and keys are kept: it tells nothing about a secret of 128 bits. */
export const sha256Hex = (text: string | Uint8Array): string => digest(text).toString('hex');
