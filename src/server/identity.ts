import { timingSafeEqual } from 'node:crypto';
import { QxError } from '../errors.ts';
import { BOOT_HEADER, BOOT_PATTERN, ROLES, type Role } from '../format/fleet-routes.ts';
import { OPENED_BY, type Proof, type Who } from '../format/route.ts';
import { nodeUri } from '../ports/authority.ts';
import type { Admission, Caller, Denial, Principal } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';
import { refuseForeignPage } from './admission.ts';
import { ROOT } from './audit.ts';
import { createGuard, digest, type Guard, refuseToken, sha256Hex } from './guard.ts';
import type { NodeTable, Reading } from './store.ts';

/**
 * Who a caller of the fleet's routes is: a host by its certificate, a person by a token, the control plane by its own, root by
 * the Unix socket. All of it is looked up at each request, so that what was revoked is revoked on open connections too.
 */

export interface IdentityOptions {
  readonly db: Reading;
  /** What the network port speaks. `dev`: plain HTTP on loopback, for development. */
  readonly transport: 'tls' | 'plain' | 'dev';
  /** Null: no control plane is let in. */
  readonly controlPlaneToken: string | null;
  readonly clock: Clock;
  readonly log: Log;
}

type Accepted = 'node' | 'control-plane' | Role;
const OURS: readonly Proof[] = ['node', 'control-plane', ...ROLES];
const isOurs = (proof: Proof): proof is Accepted => OURS.includes(proof);

export type Identify = (who: Who, caller: Caller) => Promise<Denial | Admission | null>;

export function createIdentity(options: IdentityOptions): Identify {
  const guard = createGuard(options.clock);
  return async (who, caller) => {
    const accepted = OPENED_BY[who].filter(isOurs);
    if (accepted.length === 0 && who !== 'enrolling') return forbidden('not possible on this server');
    const unsafe = caller.via === 'unix' ? null : refuseTransport(options, caller);
    if (unsafe !== null || accepted.length === 0) return unsafe;
    if (caller.queryNames.includes('token')) {
      return refuseToken('TOKEN_REFUSED', 'a token in the address ends up in logs');
    }
    if (caller.via === 'unix' && accepted.some((one) => ROLES.includes(one as Role))) {
      return { principal: { kind: 'operator', name: ROOT, role: 'admin' } };
    }
    return prove(options, guard, caller, accepted);
  };
}

const forbidden = (detail: string): Denial => ({ refused: new QxError('FORBIDDEN', detail) });

function refuseTransport({ transport }: IdentityOptions, caller: Caller): Denial | null {
  if (transport === 'tls') return null;
  if (transport === 'dev') return refuseForeignPage(caller);
  return {
    refused: new QxError('TLS_REQUIRED', 'this server speaks plain HTTP, over which nobody can prove who he is', {
      next: 'set TLS_CERT and TLS_KEY of the server; on its own machine, use its Unix socket',
    }),
  };
}

/** A token that is shown comes first: it was sent on purpose, a certificate may have come along by itself. */
async function prove(
  options: IdentityOptions,
  guard: Guard,
  caller: Caller,
  accepted: readonly Accepted[],
): Promise<Denial | Admission> {
  const takesNodes = accepted.includes('node');
  const takesTokens = accepted.some((one) => one !== 'node');
  const byToken =
    takesTokens && caller.headers.authorization !== undefined ? await ofToken(options, guard, caller, accepted) : null;
  if (byToken !== null && 'principal' in byToken) return byToken;
  const byCertificate = takesNodes ? await ofNode(options, caller) : null;
  if (byCertificate !== null && 'principal' in byCertificate) return byCertificate;
  const nothing = takesTokens
    ? refuseToken('TOKEN_REQUIRED', `this needs ${takesNodes ? 'the certificate of a host, or ' : ''}a token`)
    : refuseCertificate('this needs the certificate of an enrolled host');
  return byToken ?? byCertificate ?? nothing;
}

async function ofToken(
  { db, controlPlaneToken, log }: IdentityOptions,
  guard: Guard,
  { address, headers: { authorization = '' } }: Caller,
  accepted: readonly Accepted[],
): Promise<Denial | Admission> {
  const token = tokenIn(authorization.trim());
  const isControlPlane = controlPlaneToken !== null && timingSafeEqual(digest(token), digest(controlPlaneToken));
  const principal = isControlPlane ? ({ kind: 'control-plane' } as const) : await operatorOf(db, token);
  if (principal === null) {
    const mustWait = guard.wrong(address);
    if (mustWait !== null) return mustWait;
    log.warn('token_refused', { address });
    return refuseToken('TOKEN_REFUSED', 'this token is not known, or was taken back');
  }
  return mayDo(principal, accepted) ? { principal } : refuseRole(principal, accepted);
}

/** FleetLock's clients can carry no more than what is in their address: `https://NAME:TOKEN@SERVER`, which is sent as Basic. */
function tokenIn(authorization: string): string {
  const [, scheme = '', sent = ''] = /^(bearer|basic) +(\S+)$/i.exec(authorization) ?? [];
  if (scheme.toLowerCase() !== 'basic') return sent;
  const pair = Buffer.from(sent, 'base64').toString();
  return pair.slice(pair.indexOf(':') + 1);
}

type TokenHolder = Exclude<Principal, { kind: 'node' }>;

async function operatorOf(db: Reading, token: string): Promise<TokenHolder | null> {
  if (!/^qxo_[A-Za-z0-9_-]{43}$/.test(token)) return null;
  const row = await db
    .selectFrom('operator')
    .select(['name', 'role'])
    .where('token_sha256', '=', sha256Hex(token))
    .where('revoked_ms', 'is', null)
    .executeTakeFirst();
  return row === undefined ? null : { kind: 'operator', ...row };
}

const mayDo = (principal: TokenHolder, accepted: readonly Accepted[]): boolean =>
  principal.kind === 'control-plane'
    ? accepted.includes('control-plane')
    : accepted.some((one) => ROLES.slice(0, ROLES.indexOf(principal.role) + 1).includes(one as Role));

function refuseRole(principal: TokenHolder, accepted: readonly Accepted[]): Denial {
  const own = principal.kind === 'control-plane' ? 'the control plane' : `the role ${principal.role}`;
  return {
    refused: new QxError('ROLE_MISSING', `${own} does not suffice here: it takes ${accepted.join(' or ')}`, {
      next: 'ask an admin of the fleet: qx-fleet operator add NAME --role ROLE',
    }),
  };
}

const refuseCertificate = (detail: string): Denial => ({
  refused: new QxError('CLIENT_CERT_REFUSED', detail, {
    next: 'enrol the host with a join string of qx-fleet node invite',
  }),
});

const DEV_HEADER = 'x-qx-dev-node';
const BOOT = new RegExp(BOOT_PATTERN);

async function ofNode(options: IdentityOptions, caller: Caller): Promise<Denial | Admission | null> {
  const { db, transport, clock } = options;
  const boot = caller.headers[BOOT_HEADER];
  if (boot !== undefined && !BOOT.test(boot)) {
    return { refused: new QxError('BAD_REQUEST', `${BOOT_HEADER} is not 32 hexadecimal digits`) };
  }
  const named = transport === 'dev' && caller.via === 'tcp' ? caller.headers[DEV_HEADER] : undefined;
  if (named !== undefined) return ofDevName(db, named, boot);
  const { certificateFault, earlyCertificate = null } = caller;
  // One that this server has made is known by its very bytes; that its clock was ahead then is not the host's fault.
  const certificate = caller.certificate ?? earlyCertificate;
  if (certificate === null) {
    return certificateFault === undefined
      ? null
      : refuseCertificate(`the client certificate is not accepted: ${certificateFault}`);
  }
  const row = await db
    .selectFrom('node_certificate')
    .innerJoin('node', 'node.id', 'node_certificate.node_id')
    .select(['node.id', 'node.name', 'node.state', 'node_certificate.not_after_ms'])
    .where('node_certificate.fingerprint', '=', certificate.fingerprint256)
    .executeTakeFirst();
  if (row === undefined) return refuseCertificate('the client certificate is of no host of this fleet');
  if (certificate.alternativeNames !== `URI:${nodeUri(row.id)}`) {
    return refuseCertificate('the client certificate names another host than the one it was made for');
  }
  if (row.not_after_ms <= clock.nowMs()) return refuseCertificate('the client certificate has run out');
  return admitNode(row, certificate.fingerprint256, boot);
}

async function ofDevName(db: Reading, name: string, boot: string | undefined): Promise<Denial | Admission> {
  const row = await db
    .selectFrom('node')
    .select(['id', 'name', 'state'])
    .where('name', '=', name)
    .where('state', '<>', 'revoked')
    .executeTakeFirst();
  return row === undefined ? refuseCertificate(`${DEV_HEADER} names no host of this fleet`) : admitNode(row, '', boot);
}

function admitNode(
  { id, name, state }: { id: string; name: string; state: NodeTable['state'] },
  fingerprint: string,
  boot: string | undefined,
): Denial | Admission {
  if (state === 'enrolled') return { principal: { kind: 'node', id, name, fingerprint, boot } };
  if (state === 'pending') {
    return {
      refused: new QxError('APPROVAL_PENDING', 'this host waits for an operator to approve it', {
        next: `qx-fleet node approve ${name} --fingerprint KEY, on the side of the server`,
      }),
    };
  }
  return { refused: new QxError('NODE_REVOKED', 'this host was put out of the fleet', { next: INVITE_AGAIN }) };
}

export const INVITE_AGAIN = 'an operator can invite it again: qx-fleet node invite NAME';
