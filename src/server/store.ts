import type { Kysely, SelectQueryBuilder, Transaction } from 'kysely';
import { Migrator } from 'kysely/migration';
import type { KnownBoot } from '../core/boots.ts';
import { QxError } from '../errors.ts';
import type { NodeSummary, Role } from '../format/fleet-routes.ts';
import type { MaintenanceState } from '../format/maintenance.ts';
import type { Database } from '../ports/database.ts';
import { migrationsFor } from './store/migrations.ts';

/**
 * The state of the server: who belongs to the fleet, what is in maintenance, who holds a place, and what happened. One schema
 * on SQLite and PostgreSQL: ids and JSON are text, times are milliseconds since 1970, truth is 0 or 1.
 */

export interface Tables {
  node: NodeTable;
  node_domain: NodeDomainTable;
  node_certificate: CertificateTable;
  node_boot: NodeBootTable;
  node_conflict: NodeConflictTable;
  node_invite: InviteTable;
  operator: OperatorTable;
  maintenance: MaintenanceTable;
  place: PlaceTable;
  place_domain: PlaceDomainTable;
  budget: BudgetTable;
  outbox: OutboxTable;
  gate: GateTable;
  audit: AuditTable;
  audit_head: AuditHeadTable;
  audit_seal: AuditSealTable;
  audit_sealer: AuditSealerTable;
}

/** A host that somebody invited. It is never deleted: its audit trail names it. */
export interface NodeTable {
  /** UUID of the server's choice, in the certificate as `urn:qx:node:ID`. */
  id: string;
  /** As operators and the wire's `node_id` call it. Unique among those that are not revoked. */
  name: string;
  state: NodeSummary['state'];
  fleet_group: string;
  /** JSON: `{"rack":"r1"}`. */
  labels: string;
  /** 0: an operator vouches that there is nothing to drain. */
  carries_vms: number;
  /** Of its latest drain; only ever grows, which makes it the fencing token. */
  epoch: number;
  /** Base64 of the public key that it enrolled with, DER. */
  spki: string;
  created_ms: number;
  /** JSON: pins of the server's TLS keys that it was told with its latest certificate. Null: it was told none. */
  told_pins: string | null;
}

/** Two machines speak as this host since then, and nobody has decided yet. */
export interface NodeConflictTable {
  node_id: string;
  since_ms: number;
}

/** A start of a machine that spoke as a host, the latest ones. */
export interface NodeBootTable {
  node_id: string;
  boot: string;
  state: KnownBoot['state'];
  since_ms: number;
}

/** What a host counts in, `group:default` and one for each label: `rack=r1`. */
export interface NodeDomainTable {
  node_id: string;
  domain: string;
}

export interface CertificateTable {
  /** SHA-256, as `Caller.certificate` spells it. */
  fingerprint: string;
  node_id: string;
  /** Base64 of the key that it is for, DER: no key is certified twice. */
  spki: string;
  not_after_ms: number;
  /** PEM: asked for again by a host that lost the answer. */
  certificate: string;
}

export interface InviteTable {
  id: string;
  secret_sha256: string;
  node_name: string;
  fleet_group: string;
  labels: string;
  carries_vms: number;
  /** 1: an operator looks at the key before it gets a certificate. */
  needs_approval: number;
  /** Null: made before this was kept. */
  created_ms: number | null;
  expires_ms: number;
  /** Set in the transaction that uses it. */
  node_id: string | null;
}

export interface OperatorTable {
  name: string;
  role: Role;
  token_sha256: string;
  revoked_ms: number | null;
}

export interface MaintenanceTable {
  id: string;
  node_id: string;
  /** Counts those of one host: clocks jump. */
  ordinal: number;
  /** As its host had it when it asked. */
  fleet_group: string;
  state: MaintenanceState;
  target_version: string;
  update_type: 'component' | 'full';
  requires_reboot: number;
  /** Fencing token of its drain; 0 before there is one. */
  epoch: number;
  /** Made use of the grant; empty for a host that does not say which boot it is. */
  began_boot: string | null;
  requested_ms: number;
  draining_ms: number | null;
  ready_ms: number | null;
  /** `ready` holds until then. */
  expires_ms: number | null;
  update_started_ms: number | null;
  completed_ms: number | null;
  total_vms: number;
  migrated_vms: number;
  /** JSON: `[{"vm":"...","reason":"..."}]`. */
  failed_vms: string;
  /** JSON: `["vm"]`. */
  remaining_vms: string;
  error: string | null;
}

/** Whoever may be away from the fleet at this moment, or failed and was not looked after yet. */
export interface PlaceTable {
  /** `node:ID`, or `fleetlock:GROUP/ID`. */
  holder: string;
  granted_ms: number;
  /** When the holder last said something; null: not since it got its place. */
  heard_ms: number | null;
}

/** What a place counts in, as in `node_domain`. */
export interface PlaceDomainTable {
  holder: string;
  domain: string;
}

/** How many may be away at once. `domain` is `group:NAME`, `group:*`, or a label such as `rack`: each value of it apart. */
export interface BudgetTable {
  domain: string;
  max_hosts: number | null;
  max_percent: number | null;
}

/** One row: whoever gives out places holds it locked, so that two servers are as careful as one. */
export interface GateTable {
  id: number;
}

/** What the control plane has to be told of a host, in this order, until it took it. */
export interface OutboxTable {
  node_id: string;
  sequence: number;
  kind: 'drain' | 'uncordon';
  body: string;
  created_ms: number;
  /** Not before: after a failure, or while a server is busy with it. */
  due_ms: number;
  attempts: number;
  delivered_ms: number | null;
  error: string | null;
}

/** A chain for each thing that changes. `hash` covers `entry` and the hash before it. */
export interface AuditTable {
  subject: string;
  sequence: number;
  at_ms: number;
  actor: string;
  event: string;
  entry: string;
  hash: string;
}

/** Where the chain of a subject ends. */
export interface AuditHeadTable {
  subject: string;
  sequence: number;
  hash: string;
  /** 0: it went on since a seal was put on it. */
  is_sealed: number;
}

/** Where chains ended at a moment. A chain too: `hash` covers `entry` and the hash before it. */
export interface AuditSealTable {
  sequence: number;
  at_ms: number;
  /** JSON: `{"sequence":1,"at":"...","heads":[["node:...",7,"HASH"]]}`. */
  entry: string;
  hash: string;
}

/** One row: whoever seals holds it locked, and where the chain of seals ends. */
export interface AuditSealerTable {
  id: number;
  /** Not before: another server has just sealed. */
  due_ms: number;
  sequence: number;
  hash: string;
}

export type Store = Database<Tables>;
export type Change = Transaction<Tables>;

/** @throws QxError STATE_TOO_NEW when a newer server made the state */
export async function prepareStore(store: Store): Promise<void> {
  const { db, engine } = store;
  const provider = { getMigrations: async () => migrationsFor(engine) };
  const names = { migrationTableName: 'schema_migration', migrationLockTableName: 'schema_migration_lock' };
  const { error } = await new Migrator({ db, provider, ...names }).migrateToLatest();
  if (error === undefined) return;
  if (/previously executed migration/.test(String(error))) {
    throw new QxError('STATE_TOO_NEW', 'the state database was made by a newer qx-update-server', {
      next: 'start that version again, or restore a backup from before it',
      cause: error,
    });
  }
  throw error;
}

/** On SQLite the whole transaction holds the lock already, and there is no such clause. */
export function locked<DB, TB extends keyof DB, O>(
  { engine }: Pick<Store, 'engine'>,
  query: SelectQueryBuilder<DB, TB, O>,
): SelectQueryBuilder<DB, TB, O> {
  return engine === 'postgres' ? query.forUpdate() : query;
}

export type Reading = Kysely<Tables>;
