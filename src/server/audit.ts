import { createHash } from 'node:crypto';
import type { Principal } from '../ports/serving.ts';
import type { Change, Reading } from './store.ts';

/**
 * What happened, and who did it: one row for each change, written by the transaction that makes the change. The rows of one
 * subject, a host or an operator, form a chain of hashes, so that one which was edited or taken out is found.
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

const START = '0'.repeat(64);

export async function record(change: Change, { subject, actor, event, fields = {}, atMs }: ServerEvent): Promise<void> {
  const last = await change
    .selectFrom('audit')
    .select(['sequence', 'hash'])
    .where('subject', '=', subject)
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst();
  const sequence = (last?.sequence ?? 0) + 1;
  const entry = JSON.stringify({ subject, sequence, at: new Date(atMs).toISOString(), actor, event, ...fields });
  const hash = hashOf(last?.hash ?? START, entry);
  await change.insertInto('audit').values({ subject, sequence, at_ms: atMs, actor, event, entry, hash }).execute();
}

const hashOf = (before: string, entry: string): string =>
  createHash('sha256').update(`${before}\n${entry}`).digest('hex');

/** The first row of a subject that does not continue the one before it; null when the chain holds. */
export async function firstBroken(db: Reading, subject: string): Promise<number | null> {
  const rows = await db
    .selectFrom('audit')
    .select(['sequence', 'entry', 'hash'])
    .where('subject', '=', subject)
    .orderBy('sequence')
    .execute();
  const before = (index: number): string => rows[index - 1]?.hash ?? START;
  const index = rows.findIndex((row, i) => row.sequence !== i + 1 || row.hash !== hashOf(before(i), row.entry));
  return index < 0 ? null : index + 1;
}
