import { QxError } from '../../errors.ts';
import type { AUDIT_ROUTES, ServerAuditEvent } from '../../format/audit-routes.ts';
import type { Handlers } from '../../ports/serving.ts';
import { actorOf, entered } from '../audit.ts';
import type { Fleet } from '../membership.ts';
import { findNode } from '../nodes/rows.ts';
import type { AuditTable, Reading } from '../store.ts';
import { acceptFaults } from './accept.ts';
import { verifyAudit } from './verify.ts';

/** The routes of the audit trail. */

const STANDARD_LIMIT = 50;

export function auditHandlers({ store, clock }: Pick<Fleet, 'store' | 'clock'>): Handlers<typeof AUDIT_ROUTES> {
  const { db } = store;
  return {
    audit: async ({ query: { subject, limit } }) => {
      const about = subject === undefined ? null : await subjectMeantBy(db, subject);
      return { json: await newest(db, about, limit === undefined ? STANDARD_LIMIT : Number(limit)) };
    },
    verifyAudit: async () => ({ json: await verifyAudit(db) }),
    acceptAudit: async ({ body: { reason }, principal }) => {
      const { faults } = await verifyAudit(db);
      if (faults.length === 0) {
        throw new QxError('NOT_FOUND', 'there is nothing in the record that nobody has looked at', {
          next: 'qx-fleet audit verify',
        });
      }
      const by = { reason, actor: actorOf(principal), nowMs: clock.nowMs() };
      await store.change((change) => acceptFaults(change, { faults, ...by }));
      return { json: { status: 'accepted', faults } };
    },
  };
}

/** What belongs to no host, operator or invitation. */
const OF_THE_FLEET = ['audit', 'authority', 'budget', 'clock'];

/** Of a host, the name that people know it by. @throws QxError NODE_UNKNOWN */
async function subjectMeantBy(db: Reading, named: string): Promise<string> {
  if (OF_THE_FLEET.includes(named)) return named;
  const [, kind, name = named] = /^([a-z]+):(.+)$/s.exec(named) ?? [];
  return kind === undefined || kind === 'node' ? `node:${(await findNode(db, name)).id}` : named;
}

async function newest(db: Reading, subject: string | null, limit: number): Promise<ServerAuditEvent[]> {
  const events = db.selectFrom('audit').selectAll().limit(limit);
  // The events of one subject have an order, whatever the clocks said.
  const rows =
    subject === null
      ? await events.orderBy('at_ms', 'desc').orderBy('subject', 'desc').orderBy('sequence', 'desc').execute()
      : await events.where('subject', '=', subject).orderBy('sequence', 'desc').execute();
  const names = await namesOf(db, rows);
  return rows.toReversed().map((row) => told(row, names.get(row.subject)));
}

async function namesOf(db: Reading, rows: readonly AuditTable[]): Promise<ReadonlyMap<string, string>> {
  const ids = new Set(rows.flatMap(({ subject }) => (subject.startsWith('node:') ? [subject.slice(5)] : [])));
  if (ids.size === 0) return new Map();
  const nodes = await db
    .selectFrom('node')
    .select(['id', 'name'])
    .where('id', 'in', [...ids])
    .execute();
  return new Map(nodes.map(({ id, name }) => [`node:${id}`, name]));
}

/** Names that an event has besides its own fields. */
const OWN = ['subject', 'sequence', 'at', 'actor', 'event'];

function told({ subject, sequence, at_ms, actor, event, entry }: AuditTable, name: string | undefined) {
  const fields = Object.fromEntries(Object.entries(entered(entry)).filter(([field]) => !OWN.includes(field)));
  const host = name === undefined ? {} : { node_id: name };
  const at = new Date(at_ms).toISOString();
  return { subject, ...host, sequence, at, actor, event, fields: fields as ServerAuditEvent['fields'] };
}
