import { type Static, Type } from 'typebox';
import type { RouteTable } from './route.ts';
import { INSTANT_PATTERN, SHA256_PATTERN } from './schema.ts';

/** The audit trail of the server on the wire. */

const instant = Type.String({ pattern: INSTANT_PATTERN });
const sha256 = Type.String({ pattern: SHA256_PATTERN });
const count = Type.Integer({ minimum: 0 });

export const AUDIT_SUBJECT_PATTERN = '^[!-~]{1,300}$';
export const AUDIT_MOST = 1000;

const ServerAuditEvent = Type.Object({
  subject: Type.String({
    description: 'what it is about: node:ID, operator:NAME, invite:ID, fleetlock:GROUP/ID, budget, clock, authority',
  }),
  node_id: Type.Optional(Type.String({ description: 'name of the host that it is about' })),
  sequence: Type.Integer({ minimum: 1, description: 'counts the events of one subject' }),
  at: instant,
  actor: Type.String(),
  event: Type.String(),
  fields: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()])),
});
export type ServerAuditEvent = Static<typeof ServerAuditEvent>;

const AuditFault = Type.Object({
  where: Type.Enum(['chain', 'seal']),
  subject: Type.Union([Type.String(), Type.Null()], { description: 'null: the chain of seals' }),
  sequence: Type.Integer({ minimum: 0, description: 'of the event, or of the seal' }),
  detail: Type.String(),
});
export type AuditFault = Static<typeof AuditFault>;

export const MOST_FAULTS = 20;

const ServerAuditVerdict = Type.Object({
  ok: Type.Boolean(),
  events: count,
  subjects: count,
  seals: count,
  unsealed: Type.Integer({ minimum: 0, description: 'chains that went on since their last seal' }),
  last_seal: Type.Union([Type.Object({ sequence: count, at: instant, hash: sha256 }), Type.Null()]),
  accepted: Type.Integer({ minimum: 0, description: 'faults that an admin has looked at, which are not listed' }),
  faults: Type.Array(AuditFault, { maxItems: MOST_FAULTS }),
});
export type ServerAuditVerdict = Static<typeof ServerAuditVerdict>;

export const AUDIT_ROUTES = {
  audit: {
    method: 'GET',
    path: '/api/v1/audit',
    who: 'viewer',
    summary: 'What happened and who did it, newest last',
    query: Type.Object({
      subject: Type.Optional(
        Type.String({
          pattern: AUDIT_SUBJECT_PATTERN,
          description: 'name or id of a host, or a subject as in the events',
        }),
      ),
      limit: Type.Optional(
        Type.String({ pattern: '^(?:[1-9][0-9]{0,2}|1000)$', default: '50', description: 'the newest so many' }),
      ),
    }),
    content: 'json',
    response: Type.Array(ServerAuditEvent),
  },
  verifyAudit: {
    method: 'GET',
    path: '/api/v1/audit/verify',
    who: 'admin',
    summary: 'Whether every chain and every seal of the audit trail holds; reads all of it',
    content: 'json',
    response: ServerAuditVerdict,
  },
  acceptAudit: {
    method: 'POST',
    path: '/api/v1/audit/accept',
    who: 'admin',
    summary: 'Say that the faults which the audit trail shows now were looked at: from here on others are told',
    body: Type.Object({ reason: Type.String({ minLength: 4, maxLength: 2000 }) }, { additionalProperties: false }),
    content: 'json',
    response: Type.Object({ status: Type.Literal('accepted'), faults: Type.Array(AuditFault) }),
  },
} as const satisfies RouteTable;
