import { type AuditFault, MOST_FAULTS, type ServerAuditVerdict } from '../../format/audit-routes.ts';
import { instantOf } from '../../format/schema.ts';
import type { Reading } from '../store.ts';
import { acceptedFaults, faultKey } from './accept.ts';
import { type Report, verifyChains, verifyHeads } from './verify-chains.ts';
import { verifySeals } from './verify-seals.ts';

/** Reads the whole audit trail, a page at a time, and says what in it is not as it was written. */

export async function verifyAudit(db: Reading): Promise<ServerAuditVerdict> {
  const faults: AuditFault[] = [];
  const known = await acceptedFaults(db);
  const seen = new Set<string>();
  const report: Report = (fault) => {
    if (known.has(faultKey(fault))) seen.add(faultKey(fault));
    else if (faults.length < MOST_FAULTS) faults.push(fault);
  };
  const { events, subjects } = await verifyChains(db, report);
  await verifyHeads(db, report);
  const { seals, last } = await verifySeals(db, report);
  const { count } = await db
    .selectFrom('audit_head')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('is_sealed', '=', 0)
    .executeTakeFirstOrThrow();
  const last_seal = last && { sequence: last.sequence, at: instantOf(last.at_ms), hash: last.hash };
  const counts = { events, subjects, seals, unsealed: Number(count), accepted: seen.size };
  return { ok: faults.length === 0, ...counts, last_seal, faults };
}
