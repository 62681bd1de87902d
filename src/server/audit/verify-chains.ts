import { sql } from 'kysely';
import { type AuditFault, MOST_FAULTS } from '../../format/audit-routes.ts';
import { CHAIN_START, entered, hashOf } from '../audit.ts';
import type { AuditTable, Reading } from '../store.ts';

/** Every event follows the one before it, and every chain ends where its last change has said. */

export type Report = (fault: AuditFault) => void;

const PAGE = 500;

export async function verifyChains(db: Reading, report: Report): Promise<{ events: number; subjects: number }> {
  const read = { events: 0, subjects: 0 };
  let before: AuditTable | undefined;
  for (;;) {
    const page = await eventsAfter(db, before);
    for (const row of page) {
      const fault = faultOf(row, before?.subject === row.subject ? before : undefined);
      if (fault !== null) report({ where: 'chain', subject: row.subject, sequence: row.sequence, detail: fault });
      read.events += 1;
      if (before?.subject !== row.subject) read.subjects += 1;
      before = row;
    }
    if (page.length < PAGE) return read;
  }
}

/** The database's own order, whatever it is: it only has to be the same for each page. */
function eventsAfter(db: Reading, last: AuditTable | undefined): Promise<readonly AuditTable[]> {
  const events = db.selectFrom('audit').selectAll().orderBy('subject').orderBy('sequence').limit(PAGE);
  if (last === undefined) return events.execute();
  return events.where(sql<boolean>`(subject, sequence) > (${last.subject}, ${last.sequence})`).execute();
}

function faultOf(row: AuditTable, before: AuditTable | undefined): string | null {
  const expected = (before?.sequence ?? 0) + 1;
  if (row.sequence !== expected) {
    return row.sequence === expected + 1
      ? `event ${expected} is gone`
      : `events ${expected} to ${row.sequence - 1} are gone`;
  }
  if (row.hash !== hashOf(before?.hash ?? CHAIN_START, row.entry)) return 'the event was edited, or the one before it';
  return isAsEntered(row) ? null : 'the columns of the event say something else than what was hashed';
}

function isAsEntered({ subject, sequence, at_ms, actor, event, entry }: AuditTable): boolean {
  const { subject: about, sequence: number, at, actor: by, event: what } = entered(entry);
  return about === subject && number === sequence && Date.parse(String(at)) === at_ms && by === actor && what === event;
}

/** Each chain ends where the last transaction that continued it has said. */
export async function verifyHeads(db: Reading, report: Report): Promise<void> {
  let last: string | undefined;
  for (;;) {
    const page = await headsAfter(db, last);
    for (const { subject, sequence, hash, end, found } of page) {
      const detail = headFault({ sequence, hash, end: end === null ? 0 : Number(end), found });
      if (detail !== null) report({ where: 'chain', subject, sequence, detail });
    }
    last = page.at(-1)?.subject;
    if (page.length < PAGE) break;
  }
  const strays = await db
    .selectFrom('audit as a')
    .select('a.subject')
    .distinct()
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('audit_head as h').select('h.subject').whereRef('h.subject', '=', 'a.subject'))),
    )
    .limit(MOST_FAULTS)
    .execute();
  for (const { subject } of strays) {
    report({ where: 'chain', subject, sequence: 0, detail: 'nothing says any more where this chain ends' });
  }
}

/** One statement, so that what is recorded meanwhile is seen whole or not at all. */
function headsAfter(db: Reading, last: string | undefined) {
  const heads = db
    .selectFrom('audit_head as h')
    .select(({ selectFrom }) => [
      'h.subject',
      'h.sequence',
      'h.hash',
      selectFrom('audit as a')
        .select(({ fn }) => fn.max('a.sequence').as('end'))
        .whereRef('a.subject', '=', 'h.subject')
        .as('end'),
      selectFrom('audit as a')
        .select('a.hash')
        .whereRef('a.subject', '=', 'h.subject')
        .whereRef('a.sequence', '=', 'h.sequence')
        .as('found'),
    ])
    .orderBy('h.subject')
    .limit(PAGE);
  return (last === undefined ? heads : heads.where('h.subject', '>', last)).execute();
}

interface Head {
  readonly sequence: number;
  readonly hash: string;
  /** 0: there is no event. */
  readonly end: number;
  readonly found: string | null;
}

function headFault({ sequence, hash, end, found }: Head): string | null {
  if (end === 0) return `all ${sequence} events are gone`;
  if (end < sequence) return `the chain ends with event ${end}, and went on to ${sequence}`;
  if (end > sequence) return `the chain goes on to event ${end}, which no server has recorded`;
  return found === hash ? null : 'the last event is another one than was recorded';
}
