import { createHash, timingSafeEqual } from 'node:crypto';
import { createGuesses } from '../core/guesses.ts';
import { QxError } from '../errors.ts';
import type { Who } from '../format/route.ts';
import type { Caller, Denial } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';

/**
 * Who may publish: whoever holds the token. It only opens the door; what is published still needs the signature of a key
 * that the hosts trust.
 */

export const TOKEN_MIN_BYTES = 32;

export function createAdmission(
  token: string | null,
  clock: Clock,
  log: Log,
): (who: Who, caller: Caller) => Denial | null {
  const guard = token === null ? null : createGuard(token, clock, log);
  return (who, caller) => {
    if (who === 'open') return null;
    if (who !== 'publisher') return { refused: new QxError('FORBIDDEN', 'not possible on this server') };
    if (caller.queryNames.includes('token')) return refuse('TOKEN_REFUSED', 'a token in the address ends up in logs');
    return guard === null ? refuseForeignPage(caller) : guard(caller);
  };
}

/** Without a token (--dev on loopback) the browser of the same machine is the danger: any page could post to us. */
function refuseForeignPage({ headers }: Caller): Denial | null {
  const host = (headers.host ?? '').replace(/:[0-9]+$/, '');
  if (headers.origin === undefined && /^(?:localhost|127\.[0-9.]+|\[::1\])$/.test(host)) return null;
  return { refused: new QxError('FORBIDDEN', 'a development server without a token takes no requests from web pages') };
}

const refuse = (code: 'TOKEN_REQUIRED' | 'TOKEN_REFUSED', detail: string): Denial => ({
  refused: new QxError(code, detail, { next: 'send the header Authorization: Bearer TOKEN' }),
  headers: { 'www-authenticate': 'Bearer' },
});

function createGuard(token: string, clock: Clock, log: Log): (caller: Caller) => Denial | null {
  const right = digest(token);
  const guesses = createGuesses();
  return ({ address, headers }) => {
    const nowMs = clock.monotonicMs();
    const waitMs = guesses.waitMs(address, nowMs);
    if (waitMs > 0) return mustWait(waitMs);
    const sent = headers.authorization;
    if (sent === undefined) return refuse('TOKEN_REQUIRED', 'this needs the publish token');
    if (isRight(sent, right)) {
      guesses.right(address);
      return null;
    }
    guesses.wrong(address, nowMs);
    log.warn('token_refused', { address });
    return refuse('TOKEN_REFUSED', 'the publish token is wrong');
  };
}

function mustWait(waitMs: number): Denial {
  const seconds = Math.ceil(waitMs / 1000);
  return {
    refused: new QxError('TOO_MANY_ATTEMPTS', `too many wrong tokens; wait ${seconds} s`),
    headers: { 'retry-after': String(seconds) },
  };
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** `Bearer TOKEN`, or the bare token as the first publish script sent it. Equal lengths, since both sides are hashes. */
const isRight = (authorization: string, right: Buffer): boolean =>
  timingSafeEqual(digest(authorization.replace(/^bearer +/i, '').trim()), right);
