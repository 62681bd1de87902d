import { createHash } from 'node:crypto';
import type { Principal } from '../ports/serving.ts';
import type { Change, Reading } from './store.ts';

/**
 * What happened, and who did it: one row for each change, written by the transaction that makes the change. The rows of one
 * subject, a host or an operator, form a chain of hashes, so that one which was edited or taken out is found. Where chains end is
 * sealed every minute by `audit/seals.ts`; `audit/verify.ts` looks at all of it.
 */

export interface ServerEvent {
  /** What is locked by this transaction: `node:ID`, `invite:ID`, `operator:NAME`, `budget`. */
  readonly subject: string;
  /** Who did it: `admin alice`, `node qhci-01`, `root on the socket`, `control-plane`, `schedule`. */
  readonly actor: string;
  readonly event: string;
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
  readonly atMs: number;
}

/** Of whoever comes by the Unix socket. No operator can be called so. */
export const ROOT = 'root';

/** `ServerEvent.actor` of a caller. */
export function actorOf(principal: Principal | null): string {
  if (principal === null) return 'nobody';
  if (principal.kind === 'control-plane') return principal.kind;
  if (principal.kind === 'node') return `node ${principal.name}`;
  return principal.name === ROOT ? `${ROOT} on the socket` : `${principal.role} ${principal.name}`;
}

export const CHAIN_START = '0'.repeat(64);

export async function record(change: Change, { subject, actor, event, fields = {}, atMs }: ServerEvent): Promise<void> {
  const last = await change
    .selectFrom('audit_head')
    .select(['sequence', 'hash'])
    .where('subject', '=', subject)
    .executeTakeFirst();
  const put = async (sequence: number): Promise<{ sequence: number; hash: string } | null> => {
    const entry = JSON.stringify({ subject, sequence, at: new Date(atMs).toISOString(), actor, event, ...fields });
    const hash = hashOf(last?.hash ?? CHAIN_START, entry);
    const { numInsertedOrUpdatedRows } = await change
      .insertInto('audit')
      .values({ subject, sequence, at_ms: atMs, actor, event, entry, hash })
      .onConflict((taken) => taken.doNothing())
      .executeTakeFirstOrThrow();
    return numInsertedOrUpdatedRows === 1n ? { sequence, hash } : null;
  };
  // A head that was set back, or is gone, is for `verify` to tell: what it is about can be changed all the same.
  const end = (await put((last?.sequence ?? 0) + 1)) ?? (await put((await latestOf(change, subject)) + 1));
  const head = { ...(end as NonNullable<typeof end>), is_sealed: 0 };
  await change
    .insertInto('audit_head')
    .values({ subject, ...head })
    .onConflict((conflict) => conflict.column('subject').doUpdateSet(head))
    .execute();
}

async function latestOf(change: Change, subject: string): Promise<number> {
  const latest = change.selectFrom('audit').select(({ fn }) => fn.max('sequence').as('end'));
  return Number((await latest.where('subject', '=', subject).executeTakeFirst())?.end ?? 0);
}

export const hashOf = (before: string, entry: string): string =>
  createHash('sha256').update(`${before}\n${entry}`).digest('hex');

/** What an entry says; nothing where somebody made something else of it. */
export function entered(entry: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(entry);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** The first row of a subject that does not continue the one before it; null when the chain holds. */
export async function firstBroken(db: Reading, subject: string): Promise<number | null> {
  const rows = await db
    .selectFrom('audit')
    .select(['sequence', 'entry', 'hash'])
    .where('subject', '=', subject)
    .orderBy('sequence')
    .execute();
  const before = (index: number): string => rows[index - 1]?.hash ?? CHAIN_START;
  const index = rows.findIndex((row, i) => row.sequence !== i + 1 || row.hash !== hashOf(before(i), row.entry));
  return index < 0 ? null : index + 1;
}
