import { type Code, QxError } from '../errors.ts';
import type { NodeSummary } from '../format/fleet-routes.ts';
import { instantOf } from '../format/schema.ts';
import type { IssuedCertificate } from '../ports/authority.ts';
import { record } from './audit.ts';
import { sha256Hex } from './guard.ts';
import { INVITE_AGAIN } from './identity.ts';
import { endMaintenance } from './maintenance/grants.ts';
import { type Fleet, membershipOf } from './membership.ts';
import { bootsOf, decideBoot } from './nodes/boots.ts';
import { findNode, lockNode } from './nodes/rows.ts';
import { lockGate } from './places.ts';
import type { Change, NodeTable, Reading } from './store.ts';

/** The hosts of the fleet: who they are, and who may come and has to go. */

export const keyFingerprint = (spki: string): string => sha256Hex(Buffer.from(spki, 'base64'));

/** Of a certificate that was just issued. False: the key is in one already. */
export async function keepCertificate(
  change: Change,
  nodeId: string,
  spki: string,
  { certificate, fingerprint, notAfterMs }: IssuedCertificate,
): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await change
    .insertInto('node_certificate')
    .values({ fingerprint, node_id: nodeId, spki, not_after_ms: notAfterMs, certificate })
    .onConflict((key) => key.doNothing())
    .executeTakeFirstOrThrow();
  return numInsertedOrUpdatedRows === 1n;
}

export async function listNodes({ store: { db }, membership }: Fleet): Promise<NodeSummary[]> {
  const nextPin = membership?.reach.nextPin ?? null;
  const rows = await db
    .selectFrom('node')
    .leftJoin('node_certificate', 'node_certificate.node_id', 'node.id')
    .selectAll('node')
    .select((of) => of.fn.max('node_certificate.not_after_ms').as('not_after_ms'))
    .groupBy('node.id')
    .orderBy('node.name')
    .orderBy('node.created_ms')
    .execute();
  const conflicts = await conflictsOf(db);
  return rows.map((row) => ({
    node_id: row.name,
    id: row.id,
    state: row.state,
    group: row.fleet_group,
    labels: JSON.parse(row.labels),
    carries_vms: row.carries_vms === 1,
    key_fingerprint: keyFingerprint(row.spki),
    created_at: instantOf(row.created_ms),
    certificate_not_after: row.not_after_ms === null ? null : instantOf(row.not_after_ms),
    ...(nextPin === null ? {} : { knows_next_key: toldPins(row).includes(nextPin) }),
    ...conflicts.get(row.id),
  }));
}

const toldPins = ({ told_pins }: NodeTable): string[] => JSON.parse(told_pins ?? '[]');

/** Of hosts that two machines speak as: few, if any. */
async function conflictsOf(db: Reading): Promise<Map<string, Pick<NodeSummary, 'conflict'>>> {
  const conflicts = await db.selectFrom('node_conflict').selectAll().execute();
  const of = new Map<string, Pick<NodeSummary, 'conflict'>>();
  for (const { node_id, since_ms } of conflicts) {
    const boots = (await bootsOf(db, node_id)).map((one) => ({ boot: one.boot, since: instantOf(one.since_ms) }));
    of.set(node_id, { conflict: { since: instantOf(since_ms), boots } });
  }
  return of;
}

/** A person says that only one machine is left that speaks as this host, or which one it is. */
export async function resolve(
  { store, clock }: Fleet,
  nameOrId: string,
  decision: { readonly boot?: string | undefined; readonly reason: string },
  actor: string,
) {
  const { id } = await findNode(store.db, nameOrId);
  return store.change(async (change) => {
    const node = await lockNode(store, change, id);
    await decideBoot(change, node, decision, { actor, nowMs: clock.nowMs() });
    return stateOf(node, node.state);
  });
}

const refuse = (code: Code, detail: string, next: string) => new QxError(code, detail, { next });

const stateOf = ({ id, name }: NodeTable, state: NodeTable['state']) => ({ node_id: name, id, state });

/** Approved twice is approved. @throws QxError NODE_UNKNOWN | KEY_MISMATCH | NODE_REVOKED | TLS_REQUIRED */
export async function approve(fleet: Fleet, nameOrId: string, fingerprint: string, actor: string) {
  const { store, clock } = fleet;
  const node = await findNode(store.db, nameOrId);
  const { id, name, spki } = node;
  if (keyFingerprint(spki) !== fingerprint) {
    const next = 'compare it with what the host itself shows, and revoke the host if they differ';
    throw refuse('KEY_MISMATCH', `the key of ${name} has another fingerprint`, next);
  }
  const nowMs = clock.nowMs();
  const issued = await membershipOf(fleet).authority.issue({ id, name, spki }, nowMs);
  return store.change(async (change) => {
    const { state } = await lockNode(store, change, id);
    if (state === 'revoked') throw refuse('NODE_REVOKED', `${name} was put out of the fleet`, INVITE_AGAIN);
    if (state === 'enrolled') return stateOf(node, state);
    if (!(await keepCertificate(change, id, spki, issued))) {
      throw refuse('KEY_MISMATCH', `the key of ${name} is that of another host too`, 'revoke it and invite it again');
    }
    await change.updateTable('node').set({ state: 'enrolled' }).where('id', '=', id).execute();
    const fields = { name, key_fingerprint: fingerprint, certificate: issued.fingerprint };
    await record(change, { subject: `node:${id}`, actor, event: 'node_approved', fields, atMs: nowMs });
    return stateOf(node, 'enrolled');
  });
}

/** Revoked twice is revoked. @throws QxError NODE_UNKNOWN */
export async function revoke({ store, clock }: Fleet, nameOrId: string, reason: string, actor: string) {
  const node = await findNode(store.db, nameOrId);
  const { id, name } = node;
  const doing = { actor, nowMs: clock.nowMs() };
  return store.change(async (change) => {
    await lockGate(store, change);
    const { state } = await lockNode(store, change, id);
    if (state === 'revoked') return stateOf(node, state);
    await endMaintenance(change, id, doing, 'the host was put out of the fleet');
    await change.updateTable('node').set({ state: 'revoked' }).where('id', '=', id).execute();
    await change.deleteFrom('node_conflict').where('node_id', '=', id).execute();
    const fields = { name, reason };
    await record(change, { subject: `node:${id}`, actor, event: 'node_revoked', fields, atMs: doing.nowMs });
    return stateOf(node, 'revoked');
  });
}
