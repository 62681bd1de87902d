import { randomInt } from 'node:crypto';
import { QxError } from '../../errors.ts';
import { INVITE_TTL_S, type Invited, type InviteRequest } from '../../format/fleet-routes.ts';
import { isLoopbackHost, isServerHost, writeInvitation } from '../../format/invitation.ts';
import { instantOf } from '../../format/schema.ts';
import { record } from '../audit.ts';
import { sha256Hex } from '../guard.ts';
import { type Fleet, membershipOf, type Reach } from '../membership.ts';
import type { Reading } from '../store.ts';

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
