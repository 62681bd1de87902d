import { timingSafeEqual } from 'node:crypto';
import { QxError } from '../errors.ts';
import type { Who } from '../format/route.ts';
import type { Caller, Denial } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';
import { createGuard, digest, refuseToken } from './guard.ts';

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
  const guard = token === null ? null : createPublishGuard(token, clock, log);
  return (who, caller) => {
    if (who === 'open') return null;
    if (who !== 'publisher') return { refused: new QxError('FORBIDDEN', 'not possible on this server') };
    if (caller.queryNames.includes('token'))
      return refuseToken('TOKEN_REFUSED', 'a token in the address ends up in logs');
    return guard === null ? refuseForeignPage(caller) : guard(caller);
  };
}

/** Without a token or TLS (--dev on loopback) the browser of the same machine is the danger: any page could post to us. */
export function refuseForeignPage({ headers }: Caller): Denial | null {
  const host = (headers.host ?? '').replace(/:[0-9]+$/, '');
  if (headers.origin === undefined && /^(?:localhost|127\.[0-9.]+|\[::1\])$/.test(host)) return null;
  return { refused: new QxError('FORBIDDEN', 'a development server without a token takes no requests from web pages') };
}

function createPublishGuard(token: string, clock: Clock, log: Log): (caller: Caller) => Denial | null {
  const right = digest(token);
  const guard = createGuard(clock);
  return ({ address, headers }) => {
    const sent = headers.authorization;
    if (sent === undefined) return refuseToken('TOKEN_REQUIRED', 'this needs the publish token');
    if (isRight(sent, right)) {
      return null;
    }
    const mustWait = guard.wrong(address);
    if (mustWait !== null) return mustWait;
    log.warn('token_refused', { address });
    return refuseToken('TOKEN_REFUSED', 'the publish token is wrong');
  };
}

/** `Bearer TOKEN`, or the bare token as the first publish script sent it. Equal lengths, since both sides are hashes. */
const isRight = (authorization: string, right: Buffer): boolean =>
  timingSafeEqual(digest(authorization.replace(/^bearer +/i, '').trim()), right);
