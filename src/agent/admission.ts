import { createHash, timingSafeEqual } from 'node:crypto';
import { createGuesses } from '../core/guesses.ts';
import { QxError } from '../errors.ts';
import type { Who } from '../format/route.ts';
import type { Caller, Denial } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';

/**
 * Who may ask the agent for what. Whoever reaches the Unix socket is root, the kernel sees to that. On the network an
 * administrator shows the token, and a browser is believed only where it speaks for our own page: any page that an
 * administrator looks at could otherwise send requests to this host, under a name that it made point here.
 */

export interface AdmissionOptions {
  /** Asked at each request that shows a token. Null: none counts. */
  readonly currentToken: () => Promise<string | null>;
  /** Whether this host answers to a DNS name. */
  readonly isOurName: (name: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

const OURS: readonly Who[] = ['open', 'local', 'host-admin'];

type Admit = (who: Who, caller: Caller) => Denial | null | Promise<Denial | null>;

export function createAdmission({ isOurName, ...options }: AdmissionOptions): Admit {
  const guard = createGuard(options);
  return (who, caller) => {
    if (!OURS.includes(who)) return forbidden('a host answers to nobody but its administrator');
    if (caller.via === 'unix') return null;
    const foreign = refuseForeign(caller, isOurName);
    if (foreign !== null || who === 'open') return foreign;
    if (who === 'local') return forbidden('this is only answered on the Unix socket of the host');
    return certifiedOr(guard, caller);
  };
}

type Guard = (caller: Caller) => Promise<Denial | null>;

/**
 * A certificate that does not hold decides nothing where a token is shown as well: browsers show whichever they have on their
 * own, and whoever holds the token must not be locked out by one that has run out.
 */
function certifiedOr(guard: Guard, caller: Caller): Promise<Denial | null> | Denial | null {
  const { certificate, certificateFault, headers } = caller;
  if (certificate !== null) return null;
  if (certificateFault === undefined || headers.authorization !== undefined) return guard(caller);
  return {
    refused: new QxError('CLIENT_CERT_REFUSED', `the client certificate is not accepted: ${certificateFault}`, {
      next: "show one of the authority in updates.client_ca that is for clients and in its time, or the host's API token",
    }),
  };
}

const forbidden = (detail: string): Denial => ({ refused: new QxError('FORBIDDEN', detail) });

const HOST = /^(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9_.-]+)(?::[0-9]{1,5})?$/;
/** No page can make its own name look like an address, so an address is never a rebound name. */
const ADDRESS = /^(?:\[.*\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3})$/;

function refuseForeign({ headers }: Caller, isOurName: (name: string) => boolean): Denial | null {
  const host = headers.host ?? '';
  const name = HOST.exec(host)?.[1];
  if (name === undefined || !(ADDRESS.test(name) || isOurName(name))) {
    return forbidden('this host does not answer to the name in the Host header');
  }
  const { origin } = headers;
  if (origin !== undefined && origin.toLowerCase() !== `https://${host.toLowerCase()}`) {
    return forbidden('requests from pages of other origins are not answered');
  }
  // Without an Origin (images, scripts) browsers still say whose page it is; following a link to us is no request of theirs.
  const site = headers['sec-fetch-site'] ?? 'none';
  if (site === 'same-origin' || site === 'none' || headers['sec-fetch-mode'] === 'navigate') return null;
  return forbidden('requests from pages of other sites are not answered');
}

const NEXT = {
  next: 'send the header Authorization: Bearer TOKEN, with the content of the api-token file of this host',
};

const refuse = (code: 'TOKEN_REQUIRED' | 'TOKEN_REFUSED', detail: string): Denial => ({
  refused: new QxError(code, detail, NEXT),
  headers: { 'www-authenticate': 'Bearer' },
});

function createGuard({ currentToken, clock, log }: Omit<AdmissionOptions, 'isOurName'>): Guard {
  const guesses = createGuesses();
  return async ({ address, headers, queryNames }) => {
    if (queryNames.some((name) => /token/i.test(name))) {
      return refuse('TOKEN_REFUSED', 'a token in the address ends up in logs');
    }
    if (headers.authorization === undefined) return refuse('TOKEN_REQUIRED', "this needs the host's API token");
    const right = await currentToken();
    // The right one is let in at any time: administrators share their address with others, behind a proxy for one, and nobody
    // finds 256 bits by trying. What waiting spares is the log and the audit trail.
    if (right !== null && isRight(headers.authorization, right)) {
      return null;
    }
    const nowMs = clock.monotonicMs();
    const waitMs = guesses.waitMs(address, nowMs);
    if (waitMs > 0) return mustWait(waitMs);
    guesses.wrong(address, nowMs);
    log.warn('token_refused', { address });
    return refuse('TOKEN_REFUSED', "this is not the host's API token");
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

/** Equal lengths, since both sides are hashes. */
const isRight = (authorization: string, token: string): boolean => {
  const sent = /^bearer +(\S+)$/i.exec(authorization.trim())?.[1];
  return sent !== undefined && timingSafeEqual(digest(sent), digest(token));
};
