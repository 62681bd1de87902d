import { createHash, timingSafeEqual } from 'node:crypto';
import { QxError } from '../errors.ts';
import type { Admit, Caller, Refusal } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';

/**
 * Who may publish: whoever holds the token. It only opens the door; what is published still needs the signature of a key
 * that the hosts trust.
 */

export const TOKEN_MIN_BYTES = 32;
/** So many wrong tokens an address may send before it has to wait; while many addresses guess, one. */
const FREE_GUESSES = 5;
const GUESSES_IN_ALL_PER_MINUTE = 100;
const MINUTE_MS = 60_000;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 5 * MINUTE_MS;
const FORGET_AFTER_MS = 60 * MINUTE_MS;
const MAX_ADDRESSES = 4096;

interface Guesser {
  readonly wrong: number;
  readonly lastMs: number;
  readonly blockedUntilMs: number;
}

export function createAdmission(token: string | null, clock: Clock, log: Log): Admit {
  const guard = token === null ? null : createGuard(token, clock, log);
  return (who, caller) => {
    if (who === 'open') return null;
    if (who !== 'publisher') return { refused: new QxError('FORBIDDEN', 'not possible on this server') };
    if (caller.queryNames.includes('token')) return refuse('TOKEN_REFUSED', 'a token in the address ends up in logs');
    return guard === null ? refuseForeignPage(caller) : guard(caller);
  };
}

/** Without a token (--dev on loopback) the browser of the same machine is the danger: any page could post to us. */
function refuseForeignPage({ headers }: Caller): Refusal | null {
  const host = (headers.host ?? '').replace(/:[0-9]+$/, '');
  if (headers.origin === undefined && /^(?:localhost|127\.[0-9.]+|\[::1\])$/.test(host)) return null;
  return { refused: new QxError('FORBIDDEN', 'a development server without a token takes no requests from web pages') };
}

const refuse = (code: 'TOKEN_REQUIRED' | 'TOKEN_REFUSED', detail: string): Refusal => ({
  refused: new QxError(code, detail, { next: 'send the header Authorization: Bearer TOKEN' }),
  headers: { 'www-authenticate': 'Bearer' },
});

function createGuard(token: string, clock: Clock, log: Log): (caller: Caller) => Refusal | null {
  const right = digest(token);
  const guessers = new Map<string, Guesser>();
  const inAll = { windowStartMs: 0, wrong: 0 };

  const wait = (address: string, now: number): Refusal | null => {
    const waitMs = (guessers.get(address)?.blockedUntilMs ?? 0) - now;
    if (waitMs <= 0) return null;
    const seconds = Math.ceil(waitMs / 1000);
    return {
      refused: new QxError('TOO_MANY_ATTEMPTS', `too many wrong tokens; wait ${seconds} s`),
      headers: { 'retry-after': String(seconds) },
    };
  };

  const remember = (address: string, now: number): void => {
    if (now - inAll.windowStartMs >= MINUTE_MS) Object.assign(inAll, { windowStartMs: now, wrong: 0 });
    inAll.wrong++;
    const before = guessers.get(address);
    const wrong = (before !== undefined && now - before.lastMs < FORGET_AFTER_MS ? before.wrong : 0) + 1;
    const free = inAll.wrong > GUESSES_IN_ALL_PER_MINUTE ? 0 : FREE_GUESSES;
    const waitMs = wrong <= free ? 0 : Math.min(FIRST_WAIT_MS * 2 ** (wrong - free - 1), LONGEST_WAIT_MS);
    // Taken out and put in again, so that the map's first key is the address that was quiet for longest.
    guessers.delete(address);
    guessers.set(address, { wrong, lastMs: now, blockedUntilMs: now + waitMs });
    if (guessers.size > MAX_ADDRESSES) guessers.delete(guessers.keys().next().value ?? address);
  };

  return ({ address, headers }) => {
    const now = clock.monotonicMs();
    // Before the token is looked at, or the wait would not slow down anybody who guesses.
    const mustWait = wait(address, now);
    if (mustWait !== null) return mustWait;
    const sent = headers.authorization;
    if (sent === undefined) return refuse('TOKEN_REQUIRED', 'this needs the publish token');
    if (isRight(sent, right)) {
      guessers.delete(address);
      return null;
    }
    remember(address, now);
    log.warn('token refused', { address, wrong: guessers.get(address)?.wrong });
    return refuse('TOKEN_REFUSED', 'the publish token is wrong');
  };
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** `Bearer TOKEN`, or the bare token as the first publish script sent it. Equal lengths, since both sides are hashes. */
const isRight = (authorization: string, right: Buffer): boolean =>
  timingSafeEqual(digest(authorization.replace(/^bearer +/i, '').trim()), right);
