import { randomInt } from 'node:crypto';
import { sql } from 'kysely';
import { QxError } from '../../errors.ts';
import { INVITE_TTL_S, type Invited, type InviteRequest, type OpenInvite } from '../../format/fleet-routes.ts';
import { isLoopbackHost, isServerHost, writeInvitation } from '../../format/invitation.ts';
import { instantOf } from '../../format/schema.ts';
import { record } from '../audit.ts';
import { sha256Hex } from '../guard.ts';
import { type Fleet, membershipOf, type Reach } from '../membership.ts';
import { locked, type Reading } from '../store.ts';

/** Invitations: the right to enrol one host of this name, once. Its secret is known to whoever carries it alone. */

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';
const ID_LENGTH = 10;
/** 144 bits. */
const SECRET_LENGTH = 28;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const letters = (length: number): string =>
  Array.from({ length }, () => LETTERS.charAt(randomInt(LETTERS.length))).join('');

/** @throws QxError NAME_TAKEN | BAD_REQUEST | TLS_REQUIRED */
export async function invite(fleet: Fleet, request: InviteRequest, actor: string): Promise<Invited> {
  const { store, clock } = fleet;
  const { name, group = 'default', labels = {}, carries_vms = true, needs_approval = false } = request;
  const host = hostFor(membershipOf(fleet).reach, request.host);
  if (UUID.test(name)) throw new QxError('BAD_REQUEST', 'a host cannot have a name that looks like an id');
  await refuseTaken(store.db, name);
  const nowMs = clock.nowMs();
  const expiresMs = nowMs + (request.ttl_seconds ?? INVITE_TTL_S) * 1000;
  const [id, secret] = [letters(ID_LENGTH), letters(SECRET_LENGTH)];
  const join = writeInvitation({ id, secret, ...host });
  await store.change(async (change) => {
    await change
      .insertInto('node_invite')
      .values({
        id,
        secret_sha256: sha256Hex(secret),
        node_name: name,
        fleet_group: group,
        labels: JSON.stringify(labels),
        carries_vms: Number(carries_vms),
        needs_approval: Number(needs_approval),
        created_ms: nowMs,
        expires_ms: expiresMs,
        node_id: null,
      })
      .execute();
    const fields = { name, group, labels: JSON.stringify(labels), carries_vms, needs_approval };
    await record(change, { subject: `invite:${id}`, actor, event: 'node_invited', fields, atMs: nowMs });
  });
  const expires_at = instantOf(expiresMs);
  return { join, invite_id: id, node_id: name, group, labels, carries_vms, needs_approval, expires_at };
}

function hostFor({ pin, host: own }: Reach, asked: string | undefined): { pin: string | null; host: string } {
  const host = asked ?? own;
  if (host === null || !isServerHost(host)) {
    const detail = host === null ? 'nothing says how a host reaches this server' : 'host is no NAME or NAME:PORT';
    throw new QxError('BAD_REQUEST', detail, { next: 'qx-fleet node invite NAME --host updates.example.org:9000' });
  }
  if (pin === null && !isLoopbackHost(host)) {
    throw new QxError('TLS_REQUIRED', `without TLS, hosts enrol on this machine only, and not from ${host}`, {
      next: 'set TLS_CERT and TLS_KEY of the server',
    });
  }
  return { pin, host };
}

/** @throws QxError NAME_TAKEN */
export async function refuseTaken(db: Reading, name: string): Promise<void> {
  const row = await db
    .selectFrom('node')
    .select('id')
    .where('name', '=', name)
    .where('state', '<>', 'revoked')
    .executeTakeFirst();
  if (row !== undefined) throw nameTaken(name);
}

export const nameTaken = (name: string) =>
  new QxError('NAME_TAKEN', `there is a host ${name} in this fleet already`, {
    next: `if it is the same machine, installed anew: qx-fleet node revoke ${name} --reason reinstalled`,
  });

/** Those that can still be used. */
export async function listInvites({ store: { db }, clock }: Fleet): Promise<OpenInvite[]> {
  const rows = await db
    .selectFrom('node_invite as i')
    .leftJoin('audit as a', (on) => on.on(sql<boolean>`a.subject = 'invite:' || i.id`).on('a.sequence', '=', 1))
    .selectAll('i')
    .select('a.actor')
    .where('i.node_id', 'is', null)
    .where('i.expires_ms', '>', clock.nowMs())
    .orderBy('i.created_ms')
    .orderBy('i.id')
    .execute();
  return rows.map((row) => ({
    invite_id: row.id,
    node_id: row.node_name,
    group: row.fleet_group,
    needs_approval: row.needs_approval === 1,
    invited_by: row.actor,
    created_at: row.created_ms === null ? null : instantOf(row.created_ms),
    expires_at: instantOf(row.expires_ms),
  }));
}

/** Whoever has its join string hears that it has run out. @throws QxError NOT_FOUND | NAME_TAKEN */
export function withdrawInvite({ store, clock }: Fleet, id: string, reason: string, actor: string) {
  return store.change(async (change) => {
    const row = await locked(
      store,
      change.selectFrom('node_invite').selectAll().where('id', '=', id),
    ).executeTakeFirst();
    if (row === undefined) {
      throw new QxError('NOT_FOUND', `there is no invitation ${id}`, {
        next: 'see which there are: qx-fleet node invites',
      });
    }
    // It was used before: what came of it is the host's to lose.
    if (row.node_id !== null) throw nameTaken(row.node_name);
    await change.updateTable('node_invite').set({ expires_ms: 0 }).where('id', '=', id).execute();
    const fields = { name: row.node_name, reason };
    await record(change, { subject: `invite:${id}`, actor, event: 'invite_withdrawn', fields, atMs: clock.nowMs() });
    return { status: 'withdrawn' as const, invite_id: id, node_id: row.node_name };
  });
}
