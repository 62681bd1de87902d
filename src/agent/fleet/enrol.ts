import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { QxError } from '../../errors.ts';
import { type Certified, NODE_ROUTES } from '../../format/fleet-routes.ts';
import { readInvitation } from '../../format/invitation.ts';
import type { Enrolling, Membership } from '../../format/membership.ts';
import { enrolMessage, renewMessage } from '../../format/node-key.ts';
import type { ResponseOf } from '../../format/route.ts';
import type { Http, Post } from '../../ports.ts';
import type { Host } from '../host.ts';
import { loadIdentity } from '../identity.ts';
import { askFleet } from './client.ts';
import { forgetCopied } from './copied.ts';
import {
  forgetEnrolling,
  forgetMembership,
  isOwn,
  loadEnrolling,
  loadMembership,
  saveEnrolling,
  saveMembership,
} from './membership.ts';

/**
 * How a host becomes known to a fleet, and stays so. It makes its key itself, and nobody else ever has it; the server is told
 * apart from an impostor by the key that the join string names, before any authority is asked.
 */

export type Enrolment =
  | { readonly kind: 'enrolled'; readonly membership: Membership }
  /** An operator has to let it in. */
  | { readonly kind: 'pending'; readonly nodeId: string; readonly keyFingerprint: string; readonly server: string };

export type Member = Pick<Host, 'files' | 'audit' | 'log'> & { readonly http: Http & Post };

/** @throws QxError BAD_REQUEST | ALREADY_ENROLLED | INVITE_REFUSED | ... as the server refuses it */
export async function enrol(host: Member, join: string, options: { readonly again?: boolean }): Promise<Enrolment> {
  const { id, secret, pin, host: name } = readInvitation(join.trim());
  const known = await loadMembership(host.files);
  if (known !== null && options.again !== true && (await isOwn(host.files, known))) {
    throw new QxError('ALREADY_ENROLLED', `this host is ${known.node_id} in the fleet of ${known.server}`, {
      next: 'qx-update enroll --again, to leave it for the one of this join string',
    });
  }
  const invite = `${id}.${secret}`;
  const before = await loadEnrolling(host.files);
  const enrolling: Enrolling = {
    format: 1,
    server: `${pin === null ? 'http' : 'https'}://${name}`,
    pin,
    invite,
    // Asked again after a lost answer, the invitation counts for the key that it was used with.
    private_key: before?.invite === invite && (await isOwn(host.files, before)) ? before.private_key : newKey(),
    host_id: (await loadIdentity(host.files)).id,
  };
  await saveEnrolling(host.files, enrolling);
  return askToEnrol(host, enrolling);
}

/** @throws QxError INVITE_REFUSED | NODE_REVOKED and then there is nothing to ask for again; others may help later */
export async function askToEnrol(host: Member, enrolling: Enrolling): Promise<Enrolment> {
  const { server, pin, invite, private_key } = enrolling;
  const spki = spkiOf(private_key);
  const proof = proofOf(private_key, enrolMessage(invite.split('.')[0] ?? '', spki));
  // `{}`: the certificate of the fleet that it is about to leave is nobody's business here.
  const tls = pin === null ? {} : { pins: [pin], pinOnly: true };
  const answer: ResponseOf<(typeof NODE_ROUTES)['enroll']> = await askFleet(
    host.http,
    { server, tls },
    NODE_ROUTES.enroll,
    { body: { invite, spki, proof } },
  ).catch(async (error: unknown) => {
    if (error instanceof QxError && FINAL.has(error.code)) await forgetEnrolling(host.files);
    throw error;
  });
  if (answer.state === 'pending') {
    return { kind: 'pending', nodeId: answer.node_id, keyFingerprint: answer.key_fingerprint, server };
  }
  const membership = memberBy(answer, { server, pin, private_key, host_id: enrolling.host_id });
  await saveMembership(host.files, membership);
  await forgetEnrolling(host.files);
  await forgetCopied(host.files);
  host.log.info('fleet_joined', { server, node_id: membership.node_id });
  await host.audit.record({ event: 'fleet_joined', fields: { server, node_id: membership.node_id } });
  return { kind: 'enrolled', membership };
}

const FINAL: ReadonlySet<string> = new Set(['INVITE_REFUSED', 'NODE_REVOKED', 'NAME_TAKEN', 'KEY_MISMATCH']);

/** A fresh key with each certificate: one that leaked is of no use for long. */
export async function renew(host: Member, membership: Membership, signal?: AbortSignal): Promise<void> {
  const { server, pin, id, host_id } = membership;
  const private_key = newKey();
  const spki = spkiOf(private_key);
  const body = { spki, proof: proofOf(private_key, renewMessage(id, spki)) };
  const answer = await askFleet(host.http, serverOf(membership), NODE_ROUTES.renew, { body, signal });
  await saveMembership(host.files, memberBy(answer, { server, pin, private_key, host_id }));
  host.log.info('certificate_renewed', { not_after: answer.not_after });
}

/** @throws QxError NOT_ENROLLED */
export async function leaveFleet(host: Member, actor: string): Promise<Pick<Membership, 'node_id' | 'server'>> {
  const membership = await loadMembership(host.files);
  if (membership === null) throw new QxError('NOT_ENROLLED', 'this host is in no fleet');
  const { node_id, server } = membership;
  await forgetEnrolling(host.files);
  await forgetMembership(host.files);
  await forgetCopied(host.files);
  await host.audit.record({ event: 'fleet_left', actor, fields: { server, node_id } });
  return { node_id, server };
}

export const serverOf = ({ server, pin, node_id }: Membership) => ({
  server,
  ...(pin === null ? { devNode: node_id } : {}),
});

type Own = Pick<Membership, 'server' | 'pin' | 'private_key'> & { readonly host_id: string | undefined };

function memberBy(
  { node_id, id, certificate, not_after, renew_after, server_pins }: Certified,
  { host_id, pin, ...own }: Own,
): Membership {
  if (!isFor(certificate, own.private_key)) {
    throw new QxError('SERVER_ERROR', `${own.server} sent a certificate that is not for the key of this host`);
  }
  const made = host_id === undefined ? {} : { host_id };
  // Said by the server that was believed just now, over that connection: its next key as well, before it has it.
  const [first = pin] = server_pins ?? [];
  const told = server_pins === undefined ? {} : { pins: server_pins };
  return { format: 1, ...own, pin: first, ...told, ...made, node_id, id, certificate, not_after, renew_after };
}

function isFor(certificate: string, key: string): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

const newKey = (): string =>
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

const spkiOf = (key: string): string => createPublicKey(key).export({ type: 'spki', format: 'der' }).toString('base64');

const proofOf = (key: string, message: Uint8Array): string => sign(null, message, key).toString('base64');
