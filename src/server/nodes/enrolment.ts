import { randomUUID, timingSafeEqual } from 'node:crypto';
import { domainsOfHost } from '../../core/drain.ts';
import { QxError } from '../../errors.ts';
import type { Certified, EnrolRequest, NODE_ROUTES } from '../../format/fleet-routes.ts';
import { enrolMessage } from '../../format/node-key.ts';
import type { ResponseOf } from '../../format/route.ts';
import { instantOf } from '../../format/schema.ts';
import type { IssuedCertificate } from '../../ports/authority.ts';
import type { Caller, Denial, Reply } from '../../ports/serving.ts';
import { record } from '../audit.ts';
import { digest, type Guard, sha256Hex } from '../guard.ts';
import { INVITE_AGAIN } from '../identity.ts';
import { type Fleet, type Membership, membershipOf, pinsOf } from '../membership.ts';
import { keepCertificate, keyFingerprint } from '../nodes.ts';
import { type CertificateTable, type Change, type InviteTable, locked, type NodeTable } from '../store.ts';
import { nameTaken, refuseTaken } from './invitations.ts';
import { expectOneAuthority } from './one-authority.ts';
import { checkProof } from './proof.ts';
import { lockNode } from './rows.ts';

/** How a host gets its first certificate: by an invitation, and a key that it has the private half of. */

type EnrolReply = Reply<ResponseOf<(typeof NODE_ROUTES)['enroll']>>;

const SECRET = { 'cache-control': 'no-store' };

/** Sent again, because the answer was lost or an operator had to approve it, it answers the same as before. */
export async function enrol(fleet: Fleet, guard: Guard, request: EnrolRequest, caller: Caller): Promise<EnrolReply> {
  const { store, clock } = fleet;
  const membership = membershipOf(fleet);
  const { authority } = membership;
  const { spki, proof } = request;
  const [inviteId = '', secret = ''] = request.invite.split('.');
  checkProof(spki, enrolMessage(inviteId, spki), proof);
  const known = await provenInvite(fleet, guard, { inviteId, secret }, caller);
  if ('refused' in known) return known;
  const nowMs = clock.nowMs();
  // Two servers that began at the same time, each with an authority of its own, find out here.
  await expectOneAuthority(store.db, authority, nowMs);
  const id = randomUUID();
  // Before the transaction, which waits for nothing but the database; most often it is needed.
  const isDirect = known.node_id === null && known.needs_approval === 0;
  const issued = isDirect ? await authority.issue({ id, name: known.node_name, spki }, nowMs) : null;
  return store.change(async (change) => {
    const invite = await locked(
      store,
      change.selectFrom('node_invite').selectAll().where('id', '=', inviteId),
    ).executeTakeFirstOrThrow();
    if (invite.node_id !== null) {
      const node = await lockNode(store, change, invite.node_id);
      const known = knownBefore(node, await certificateOf(change, node), { spki, nowMs });
      return known === null
        ? pending(node)
        : { json: await certified(change, membership, node, known), headers: SECRET };
    }
    if (invite.expires_ms <= nowMs) throw refused('this invitation has run out', INVITE_AGAIN);
    const node = await addNode(change, invite, { id, spki, nowMs });
    if (issued === null) return pending(node);
    const certificate = await certify(change, node, issued);
    return { json: await certified(change, membership, node, certificate), headers: SECRET };
  });
}

const refused = (detail: string, next: string) => new QxError('INVITE_REFUSED', detail, { next });

/** No more is said of a wrong secret than of an invitation that never was. */
async function provenInvite(
  { store, log }: Fleet,
  guard: Guard,
  { inviteId, secret }: { readonly inviteId: string; readonly secret: string },
  { address }: Caller,
): Promise<InviteTable | Denial> {
  const row = await store.db.selectFrom('node_invite').selectAll().where('id', '=', inviteId).executeTakeFirst();
  const isRight = timingSafeEqual(digest(row?.secret_sha256 ?? ''), digest(sha256Hex(secret)));
  if (row !== undefined && isRight) {
    return row;
  }
  const mustWait = guard.wrong(address);
  if (mustWait !== null) return mustWait;
  log.warn('invitation_refused', { address });
  return { refused: refused('there is no such invitation', 'copy the whole join string, or ask for a new one') };
}

interface Key {
  readonly spki: string;
  readonly nowMs: number;
}

async function addNode(
  change: Change,
  invite: InviteTable,
  { id, spki, nowMs }: Key & { readonly id: string },
): Promise<NodeTable> {
  const { node_name: name, fleet_group, labels, carries_vms } = invite;
  await refuseTaken(change, name);
  const state = invite.needs_approval === 1 ? ('pending' as const) : ('enrolled' as const);
  const node = {
    id,
    name,
    state,
    fleet_group,
    labels,
    carries_vms,
    epoch: 0,
    spki,
    created_ms: nowMs,
    told_pins: null,
  };
  const { numInsertedOrUpdatedRows } = await change
    .insertInto('node')
    .values(node)
    .onConflict((same) => same.doNothing())
    .executeTakeFirstOrThrow();
  // Between the look and this, another invitation for the name may have been used.
  if (numInsertedOrUpdatedRows !== 1n) throw nameTaken(name);
  const domains = domainsOfHost(fleet_group, JSON.parse(labels)).map((domain) => ({ node_id: id, domain }));
  await change.insertInto('node_domain').values(domains).execute();
  await change.updateTable('node_invite').set({ node_id: id }).where('id', '=', invite.id).execute();
  const event = state === 'pending' ? 'node_pending' : 'node_enrolled';
  const fields = { name, invite: invite.id, group: fleet_group, labels, key_fingerprint: keyFingerprint(spki) };
  await record(change, { subject: `node:${id}`, actor: `node ${name}`, event, fields, atMs: nowMs });
  return node;
}

async function certify(change: Change, node: NodeTable, issued: IssuedCertificate): Promise<Certificate> {
  if (!(await keepCertificate(change, node.id, node.spki, issued))) {
    throw new QxError('KEY_MISMATCH', 'this key belongs to another host already', {
      next: 'make a fresh key on this host; a copy of the disk of another one has its key',
    });
  }
  return { certificate: issued.certificate, not_after_ms: issued.notAfterMs };
}

type Certificate = Pick<CertificateTable, 'certificate' | 'not_after_ms'>;

const certificateOf = (change: Change, { id, spki }: NodeTable): Promise<Certificate | undefined> =>
  change
    .selectFrom('node_certificate')
    .select(['certificate', 'not_after_ms'])
    .where('node_id', '=', id)
    .where('spki', '=', spki)
    .executeTakeFirst();

/** Null: it waits for an operator. */
function knownBefore(node: NodeTable, certificate: Certificate | undefined, { spki, nowMs }: Key): Certificate | null {
  if (node.spki !== spki) throw refused('this invitation was used by another key', INVITE_AGAIN);
  if (node.state === 'revoked') {
    throw new QxError('NODE_REVOKED', 'this host was put out of the fleet', { next: INVITE_AGAIN });
  }
  if (node.state === 'pending') return null;
  if (certificate === undefined || certificate.not_after_ms <= nowMs) {
    throw refused('the certificate of this invitation has run out', INVITE_AGAIN);
  }
  return certificate;
}

const pending = ({ name, spki }: NodeTable): EnrolReply => ({
  status: 202,
  json: { state: 'pending', node_id: name, key_fingerprint: keyFingerprint(spki) },
});

/** A third of the time that a certificate holds. */
const RENEW_BEFORE_MS = 10 * 86_400_000;

/** With the keys of this server, so that a host believes the next one before this server has it. */
export async function certified(
  change: Change,
  membership: Membership,
  { id, name }: Pick<NodeTable, 'id' | 'name'>,
  { certificate, not_after_ms }: Certificate,
): Promise<Certified> {
  const pins = pinsOf(membership);
  await change
    .updateTable('node')
    .set({ told_pins: JSON.stringify(pins) })
    .where('id', '=', id)
    .execute();
  return {
    state: 'enrolled',
    node_id: name,
    id,
    certificate,
    authority: membership.authority.certificate,
    not_after: instantOf(not_after_ms),
    renew_after: instantOf(not_after_ms - RENEW_BEFORE_MS),
    ...(pins.length === 0 ? {} : { server_pins: pins }),
  };
}
