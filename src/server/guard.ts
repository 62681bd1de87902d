import { createHash } from 'node:crypto';
import { createGuesses } from '../core/guesses.ts';
import { QxError } from '../errors.ts';
import type { Denial } from '../ports/serving.ts';
import type { Clock } from '../ports.ts';

/**
 * What everybody hears who shows a wrong secret, and how he is slowed down. The right one is let in at any time: many come from one
 * address, behind a proxy for one, and no secret here is short enough to be found by trying (32 bytes that somebody chose, or
 * at least 128 bits of chance). What waiting spares is the log and the audit trail.
 */

export interface Guard {
  /** Null: said for the first few times, it is only wrong. Asked once the secret was looked at, and right before the answer. */
  wrong(address: string): Denial | null;
}

export function createGuard(clock: Clock): Guard {
  const guesses = createGuesses();
  return {
    wrong: (address) => {
      const nowMs = clock.monotonicMs();
      const waitMs = guesses.waitMs(address, nowMs);
      if (waitMs > 0) return tellToWait(waitMs);
      guesses.wrong(address, nowMs);
      return null;
    },
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
