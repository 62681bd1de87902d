import { CHAIN_START, entered, hashOf } from '../audit.ts';
import type { AuditSealTable, Reading } from '../store.ts';
import type { SealedHead } from './seals.ts';
import type { Report } from './verify-chains.ts';

/** Every seal follows the one before it, and every event that was sealed is still there as it was. */

/** Each holds up to a thousand heads. */
const PAGE = 10;

export async function verifySeals(
  db: Reading,
  report: Report,
): Promise<{ seals: number; last: AuditSealTable | null }> {
  // Read first: a seal that is put on meanwhile is behind it, and none that it names may be missing.
  const { sequence: ended, hash } = await db.selectFrom('audit_sealer').selectAll().executeTakeFirstOrThrow();
  // One report for each chain: what is gone is missing from every seal that was put on it.
  const reported = new Set<string>();
  const read = { seals: 0 };
  let last: AuditSealTable | null = null;
  for (;;) {
    const page: readonly AuditSealTable[] = await sealsAfter(db, last?.sequence ?? 0);
    for (const seal of page) {
      const detail = faultOf(seal, last);
      if (detail === null) await verifyHeadsOf(db, seal, report, reported);
      else report({ where: 'seal', subject: null, sequence: seal.sequence, detail });
      if (seal.sequence === ended && seal.hash !== hash) {
        report({
          where: 'seal',
          subject: null,
          sequence: ended,
          detail: 'the last seal is another one than was put on',
        });
      }
      read.seals += 1;
      last = seal;
    }
    if (page.length < PAGE) break;
  }
  const end: number = last?.sequence ?? 0;
  if (end < ended) {
    report({
      where: 'seal',
      subject: null,
      sequence: end,
      detail: `the seals end with ${end}, and went on to ${ended}`,
    });
  }
  return { seals: read.seals, last };
}

const sealsAfter = (db: Reading, sequence: number): Promise<readonly AuditSealTable[]> =>
  db.selectFrom('audit_seal').selectAll().where('sequence', '>', sequence).orderBy('sequence').limit(PAGE).execute();

function faultOf({ sequence, at_ms, entry, hash }: AuditSealTable, before: AuditSealTable | null): string | null {
  const expected = (before?.sequence ?? 0) + 1;
  if (sequence !== expected) {
    return sequence === expected + 1 ? `seal ${expected} is gone` : `seals ${expected} to ${sequence - 1} are gone`;
  }
  if (hash !== hashOf(before?.hash ?? CHAIN_START, entry)) return 'the seal was edited, or the one before it';
  const { sequence: number, at, heads } = entered(entry);
  const isAsEntered = number === sequence && Date.parse(String(at)) === at_ms && Array.isArray(heads);
  return isAsEntered ? null : 'the columns of the seal say something else than what was hashed';
}

const HEADS_AT_ONCE = 100;

async function verifyHeadsOf(db: Reading, seal: AuditSealTable, report: Report, reported: Set<string>): Promise<void> {
  const heads = entered(seal.entry).heads as readonly SealedHead[];
  for (let at = 0; at < heads.length; at += HEADS_AT_ONCE) {
    const some = heads.slice(at, at + HEADS_AT_ONCE);
    const found = await hashesOf(db, some);
    for (const [subject, sequence, hash] of some) {
      const now = found.get(`${sequence} ${subject}`);
      if (now === hash || reported.has(subject)) continue;
      reported.add(subject);
      const detail =
        now === undefined ? `is gone, and seal ${seal.sequence} names it` : `is not what seal ${seal.sequence} names`;
      report({ where: 'chain', subject, sequence, detail: `event ${sequence} ${detail}` });
    }
  }
}

async function hashesOf(db: Reading, heads: readonly SealedHead[]): Promise<ReadonlyMap<string, string>> {
  const rows = await db
    .selectFrom('audit')
    .select(['subject', 'sequence', 'hash'])
    .where(({ or, and, eb }) =>
      or(heads.map(([subject, sequence]) => and([eb('subject', '=', subject), eb('sequence', '=', sequence)]))),
    )
    .execute();
  return new Map(rows.map(({ subject, sequence, hash }) => [`${sequence} ${subject}`, hash]));
}
