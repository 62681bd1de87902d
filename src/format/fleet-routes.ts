import { type Static, Type } from 'typebox';
import { INVITE_PATTERN } from './invitation.ts';
import { PROOF_PATTERN, SPKI_PATTERN } from './node-key.ts';
import type { RouteTable } from './route.ts';
import { INSTANT_PATTERN, NAME_PATTERN, SHA256_PATTERN } from './schema.ts';

/** The part of the REST interface of the server by which hosts and people become known to it. */

/** Which boot of a host speaks. Hosts of before do not say it. */
export const BOOT_HEADER = 'x-qx-boot';
export const BOOT_PATTERN = '^[a-f0-9]{32}$';

const closed = { additionalProperties: false } as const;
const name = Type.String({ pattern: NAME_PATTERN });
const instant = Type.String({ pattern: INSTANT_PATTERN });
const keyFingerprint = Type.String({ pattern: SHA256_PATTERN, description: 'SHA-256 of the public key (SPKI, DER)' });

export const INVITE_MAX_TTL_S = 7 * 86_400;
export const INVITE_TTL_S = 3600;
const MAX_LABELS = 16;
const MAX_REASON_LENGTH = 500;

const Labels = Type.Record(name, name, { ...closed, maxProperties: MAX_LABELS });
export type Labels = Static<typeof Labels>;

const InviteRequest = Type.Object(
  {
    name,
    group: Type.Optional(Type.String({ pattern: NAME_PATTERN, default: 'default' })),
    labels: Type.Optional(Labels),
    carries_vms: Type.Optional(Type.Boolean({ description: 'false: there is nothing to drain', default: true })),
    needs_approval: Type.Optional(Type.Boolean({ default: false })),
    ttl_seconds: Type.Optional(Type.Integer({ minimum: 1, maximum: INVITE_MAX_TTL_S, default: INVITE_TTL_S })),
    host: Type.Optional(Type.String({ maxLength: 300, description: 'how the host reaches this server: NAME[:PORT]' })),
  },
  closed,
);
export type InviteRequest = Static<typeof InviteRequest>;

const Invited = Type.Object({
  join: Type.String({ description: 'for the new host; shown this once' }),
  invite_id: Type.String(),
  node_id: name,
  group: name,
  labels: Labels,
  carries_vms: Type.Boolean(),
  needs_approval: Type.Boolean(),
  expires_at: instant,
});
export type Invited = Static<typeof Invited>;

const OpenInvite = Type.Object({
  invite_id: Type.String(),
  node_id: name,
  group: name,
  needs_approval: Type.Boolean(),
  invited_by: Type.Union([Type.String(), Type.Null()]),
  created_at: Type.Union([instant, Type.Null()]),
  expires_at: instant,
});
export type OpenInvite = Static<typeof OpenInvite>;
const ofInvite = Type.Object({ invite: Type.String({ pattern: '^[a-z0-9]{1,64}$' }) });

const spki = Type.String({ pattern: SPKI_PATTERN, description: 'public key, DER in base64' });
const proof = Type.String({ pattern: PROOF_PATTERN, description: 'signature by that key' });

const EnrolRequest = Type.Object({ invite: Type.String({ pattern: INVITE_PATTERN }), spki, proof }, closed);
export type EnrolRequest = Static<typeof EnrolRequest>;

export const MAX_PINS = 4;
export const Pin = Type.String({
  pattern: '^[A-Za-z0-9_-]{43}$',
  description: "SHA-256 of a server's public key (SPKI, DER), base64url",
});

const Certified = Type.Object({
  state: Type.Literal('enrolled'),
  node_id: name,
  id: Type.String({ format: 'uuid' }),
  certificate: Type.String({ description: 'PEM' }),
  authority: Type.String({ description: 'PEM of whoever issued it' }),
  not_after: instant,
  renew_after: instant,
  server_pins: Type.Optional(
    Type.Array(Pin, {
      minItems: 1,
      maxItems: MAX_PINS,
      description: 'the TLS key of this server, and then the one that it will have next; only over TLS',
    }),
  ),
});
export type Certified = Static<typeof Certified>;

const Pending = Type.Object({ state: Type.Literal('pending'), node_id: name, key_fingerprint: keyFingerprint });

const ofNode = Type.Object({
  node: Type.String({ pattern: NAME_PATTERN, description: 'name or id of a host' }),
});
const ofOperator = Type.Object({ operator: name });

const NodeSummary = Type.Object({
  node_id: name,
  id: Type.String({ format: 'uuid' }),
  state: Type.Enum(['pending', 'enrolled', 'revoked']),
  group: name,
  labels: Labels,
  carries_vms: Type.Boolean(),
  key_fingerprint: keyFingerprint,
  created_at: instant,
  certificate_not_after: Type.Union([instant, Type.Null()]),
  knows_next_key: Type.Optional(
    Type.Boolean({
      description: 'whether it was told the TLS key that this server will have next; left out without one',
    }),
  ),
  conflict: Type.Optional(
    Type.Object(
      { since: instant, boots: Type.Array(Type.Object({ boot: Type.String(), since: instant })) },
      { description: 'two machines speak as this host, and both are refused until somebody decides' },
    ),
  ),
});
export type NodeSummary = Static<typeof NodeSummary>;

/** Each may also what the ones before it may. */
export const ROLES = ['viewer', 'operator', 'admin'] as const;
const Role = Type.Enum(ROLES);
export type Role = Static<typeof Role>;

const OperatorSummary = Type.Object({
  name,
  role: Role,
  revoked_at: Type.Union([instant, Type.Null()]),
});
export type OperatorSummary = Static<typeof OperatorSummary>;

const NodeState = Type.Object({
  node_id: name,
  id: Type.String({ format: 'uuid' }),
  state: NodeSummary.properties.state,
});
const reason = Type.String({ minLength: 1, maxLength: MAX_REASON_LENGTH });

export const NODE_ROUTES = {
  enroll: {
    method: 'POST',
    path: '/api/v1/nodes/enroll',
    who: 'enrolling',
    summary: 'Make this host known to the fleet by an invitation: answers its certificate, or 202 until it is approved',
    body: EnrolRequest,
    content: 'json',
    response: Type.Union([Certified, Pending]),
  },
  renew: {
    method: 'POST',
    path: '/api/v1/nodes/renew',
    who: 'node',
    summary: 'A fresh certificate for a fresh key; the one before stays good until it runs out',
    body: Type.Object({ spki, proof }, closed),
    content: 'json',
    response: Certified,
  },
  nodes: {
    method: 'GET',
    path: '/api/v1/nodes',
    who: 'viewer',
    summary: 'The hosts of the fleet, by name',
    content: 'json',
    response: Type.Array(NodeSummary),
  },
  inviteNode: {
    method: 'POST',
    path: '/api/v1/nodes/invite',
    who: 'operator',
    summary: 'Make a join string, with which one host may enrol once',
    body: InviteRequest,
    content: 'json',
    response: Invited,
    status: 201,
  },
  invites: {
    method: 'GET',
    path: '/api/v1/nodes/invites',
    who: 'viewer',
    summary: 'Invitations that can still be used, without their secrets; the oldest first',
    content: 'json',
    response: Type.Array(OpenInvite),
  },
  withdrawInvite: {
    method: 'POST',
    path: '/api/v1/nodes/invites/{invite}/withdraw',
    who: 'operator',
    summary: 'Take an invitation back that nobody has used',
    params: ofInvite,
    body: Type.Object({ reason }, closed),
    content: 'json',
    response: Type.Object({ status: Type.Literal('withdrawn'), invite_id: Type.String(), node_id: name }),
  },
  approveNode: {
    method: 'POST',
    path: '/api/v1/nodes/{node}/approve',
    who: 'operator',
    summary: 'Let a host in that waits for it, by the fingerprint of its key',
    params: ofNode,
    body: Type.Object({ key_fingerprint: keyFingerprint }, closed),
    content: 'json',
    response: NodeState,
  },
  revokeNode: {
    method: 'POST',
    path: '/api/v1/nodes/{node}/revoke',
    who: 'admin',
    summary: 'Put a host out of the fleet, from its next request on and for good',
    params: ofNode,
    body: Type.Object({ reason }, closed),
    content: 'json',
    response: NodeState,
  },
  resolveNode: {
    method: 'POST',
    path: '/api/v1/nodes/{node}/resolve',
    who: 'admin',
    summary: 'Of two machines that spoke as one host, one is left: go on with it',
    params: ofNode,
    body: Type.Object(
      {
        reason,
        boot: Type.Optional(
          Type.String({
            pattern: '^[a-f0-9]{6,32}$',
            description: 'the beginning of the boot that is the host; the others that were seen stay refused',
          }),
        ),
      },
      closed,
    ),
    content: 'json',
    response: NodeState,
  },
  addOperator: {
    method: 'POST',
    path: '/api/v1/operators',
    who: 'admin',
    summary: 'Let a person or a program in, with a role; its token is shown this once',
    body: Type.Object({ name, role: Role }, closed),
    content: 'json',
    response: Type.Object({ name, role: Role, token: Type.String() }),
    status: 201,
  },
  operators: {
    method: 'GET',
    path: '/api/v1/operators',
    who: 'admin',
    summary: 'Who has a token, and with which role',
    content: 'json',
    response: Type.Array(OperatorSummary),
  },
  revokeOperator: {
    method: 'POST',
    path: '/api/v1/operators/{operator}/revoke',
    who: 'admin',
    summary: 'Take a token back, from its next use on',
    params: ofOperator,
    content: 'json',
    response: OperatorSummary,
  },
} as const satisfies RouteTable;
