import type { AuditFault } from '../../format/audit-routes.ts';
import { entered, record } from '../audit.ts';
import type { Change, Reading } from '../store.ts';

/**
 * What was edited or taken away stays so: nothing mends a chain. A person looks at it once and says so, in the record itself, so
 * that the next fault is told from this one.
 */

const SUBJECT = 'audit';
const EVENT = 'faults_accepted';

export const faultKey = ({ where, subject, sequence, detail }: AuditFault): string =>
  `${where} ${subject ?? '-'} ${sequence} ${detail}`;

export async function acceptedFaults(db: Reading): Promise<ReadonlySet<string>> {
  const rows = await db
    .selectFrom('audit')
    .select('entry')
    .where('subject', '=', SUBJECT)
    .where('event', '=', EVENT)
    .execute();
  return new Set(rows.flatMap(({ entry }) => String(entered(entry).faults ?? '').split('\n')));
}

interface Accepting {
  readonly faults: readonly AuditFault[];
  readonly reason: string;
  readonly actor: string;
  readonly nowMs: number;
}

export async function acceptFaults(change: Change, { faults, reason, actor, nowMs }: Accepting): Promise<void> {
  const fields = { reason, count: faults.length, faults: faults.map(faultKey).join('\n') };
  await record(change, { subject: SUBJECT, actor, event: EVENT, fields, atMs: nowMs });
}
