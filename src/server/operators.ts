import { randomBytes } from 'node:crypto';
import { QxError } from '../errors.ts';
import type { OperatorSummary, Role } from '../format/fleet-routes.ts';
import { instantOf } from '../format/schema.ts';
import { ROOT, record } from './audit.ts';
import { sha256Hex } from './guard.ts';
import type { Fleet } from './membership.ts';
import { locked, type OperatorTable, type Reading } from './store.ts';

/** People and programs with a token. The token itself is known to its owner alone. */

const TOKEN_BYTES = 32;

/** A name whose token was taken back can be given again. @throws QxError NAME_TAKEN */
export async function addOperator(
  { store, clock }: Fleet,
  { name, role }: { readonly name: string; readonly role: Role },
  actor: string,
): Promise<{ name: string; role: Role; token: string }> {
  if (name === ROOT) throw taken(name, 'it is that of whoever uses the Unix socket: choose another one');
  const token = `qxo_${randomBytes(TOKEN_BYTES).toString('base64url')}`;
  const row = { name, role, token_sha256: sha256Hex(token), revoked_ms: null };
  await store.change(async (change) => {
    const { numInsertedOrUpdatedRows } = await change
      .insertInto('operator')
      .values(row)
      .onConflict((same) => same.column('name').doUpdateSet(row).where('operator.revoked_ms', 'is not', null))
      .executeTakeFirstOrThrow();
    if (numInsertedOrUpdatedRows !== 1n) throw taken(name, `qx-fleet operator revoke ${name} first`);
    const subject = `operator:${name}`;
    await record(change, { subject, actor, event: 'operator_added', fields: { role }, atMs: clock.nowMs() });
  });
  return { name, role, token };
}

const taken = (name: string, next: string) =>
  new QxError('NAME_TAKEN', `there is an operator ${name} already`, { next });

export async function listOperators(db: Reading): Promise<OperatorSummary[]> {
  const rows = await db.selectFrom('operator').selectAll().orderBy('name').execute();
  return rows.map(summary);
}

const summary = ({ name, role, revoked_ms }: OperatorTable): OperatorSummary => ({
  name,
  role,
  revoked_at: revoked_ms === null ? null : instantOf(revoked_ms),
});

/** Revoked twice is revoked. @throws QxError NOT_FOUND */
export function revokeOperator({ store, clock }: Fleet, name: string, actor: string): Promise<OperatorSummary> {
  return store.change(async (change) => {
    const row = await locked(
      store,
      change.selectFrom('operator').selectAll().where('name', '=', name),
    ).executeTakeFirst();
    if (row === undefined)
      throw new QxError('NOT_FOUND', `there is no operator ${name}`, { next: 'qx-fleet operator list' });
    if (row.revoked_ms !== null) return summary(row);
    const revoked_ms = clock.nowMs();
    await change.updateTable('operator').set({ revoked_ms }).where('name', '=', name).execute();
    await record(change, { subject: `operator:${name}`, actor, event: 'operator_revoked', atMs: revoked_ms });
    return summary({ ...row, revoked_ms });
  });
}
