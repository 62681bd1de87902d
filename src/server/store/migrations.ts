import { type CreateTableBuilder, type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import { foldCase } from '../../format/text.ts';
import type { Database } from '../../ports/database.ts';

/** How the tables of `server/store.ts` came to be. What was released is never changed: the next step goes below. */

export function migrationsFor(engine: Database<unknown>['engine']): Record<string, Migration> {
  return {
    '0001_fleet': { up: (db) => fleet(db, engine) },
    '0002_drained': { up: drained },
    '0003_left_out': { up: leftOut },
    '0004_audit_seals': { up: (db) => auditSeals(db, engine) },
    '0005_heard': { up: (db) => heard(db, engine) },
    '0006_one_case': { up: oneCase },
    '0007_boots': { up: (db) => boots(db, engine) },
    '0008_told_pins': { up: toldPins },
  };
}

function tablesOf(db: Kysely<unknown>, engine: Database<unknown>['engine']) {
  // STRICT takes no other name, and PostgreSQL's integer is too small for a time.
  const whole = engine === 'sqlite' ? ('integer' as const) : ('bigint' as const);
  const table = async <T extends string, C extends string>(
    name: T,
    columns: (builder: CreateTableBuilder<T>) => CreateTableBuilder<T, C>,
  ): Promise<void> => {
    const made = columns(db.schema.createTable(name));
    await (engine === 'sqlite' ? made.modifyEnd(sql`strict`) : made).execute();
  };
  return { whole, table };
}

async function fleet(db: Kysely<unknown>, engine: Database<unknown>['engine']): Promise<void> {
  const { whole, table } = tablesOf(db, engine);
  await table('node', (t) =>
    t
      .addColumn('id', 'text', (c) => c.primaryKey().notNull())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('state', 'text', (c) => c.notNull().check(sql`state in ('pending', 'enrolled', 'revoked')`))
      .addColumn('fleet_group', 'text', (c) => c.notNull())
      .addColumn('labels', 'text', (c) => c.notNull())
      .addColumn('carries_vms', whole, (c) => c.notNull())
      .addColumn('epoch', whole, (c) => c.notNull())
      .addColumn('spki', 'text', (c) => c.notNull())
      .addColumn('created_ms', whole, (c) => c.notNull()),
  );
  await sql`create unique index node_name on node (name) where state <> 'revoked'`.execute(db);
  await table('node_domain', (t) =>
    t
      .addColumn('node_id', 'text', (c) => c.notNull().references('node.id'))
      .addColumn('domain', 'text', (c) => c.notNull())
      .addPrimaryKeyConstraint('node_domain_key', ['node_id', 'domain']),
  );
  await db.schema.createIndex('node_domain_domain').on('node_domain').column('domain').execute();

  await table('node_certificate', (t) =>
    t
      .addColumn('fingerprint', 'text', (c) => c.primaryKey().notNull())
      .addColumn('node_id', 'text', (c) => c.notNull().references('node.id'))
      .addColumn('spki', 'text', (c) => c.notNull().unique())
      .addColumn('not_after_ms', whole, (c) => c.notNull())
      .addColumn('certificate', 'text', (c) => c.notNull()),
  );
  await db.schema.createIndex('node_certificate_node').on('node_certificate').column('node_id').execute();

  await table('node_invite', (t) =>
    t
      .addColumn('id', 'text', (c) => c.primaryKey().notNull())
      .addColumn('secret_sha256', 'text', (c) => c.notNull())
      .addColumn('node_name', 'text', (c) => c.notNull())
      .addColumn('fleet_group', 'text', (c) => c.notNull())
      .addColumn('labels', 'text', (c) => c.notNull())
      .addColumn('carries_vms', whole, (c) => c.notNull())
      .addColumn('needs_approval', whole, (c) => c.notNull())
      .addColumn('expires_ms', whole, (c) => c.notNull())
      .addColumn('node_id', 'text', (c) => c.references('node.id')),
  );

  await table('operator', (t) =>
    t
      .addColumn('name', 'text', (c) => c.primaryKey().notNull())
      .addColumn('role', 'text', (c) => c.notNull().check(sql`role in ('viewer', 'operator', 'admin')`))
      .addColumn('token_sha256', 'text', (c) => c.notNull().unique())
      .addColumn('revoked_ms', whole),
  );

  await table('maintenance', (t) =>
    t
      .addColumn('id', 'text', (c) => c.primaryKey().notNull())
      .addColumn('node_id', 'text', (c) => c.notNull().references('node.id'))
      .addColumn('ordinal', whole, (c) => c.notNull())
      .addColumn('fleet_group', 'text', (c) => c.notNull())
      .addColumn('state', 'text', (c) => c.notNull())
      .addColumn('target_version', 'text', (c) => c.notNull())
      .addColumn('update_type', 'text', (c) => c.notNull().check(sql`update_type in ('component', 'full')`))
      .addColumn('requires_reboot', whole, (c) => c.notNull())
      .addColumn('epoch', whole, (c) => c.notNull())
      .addColumn('requested_ms', whole, (c) => c.notNull())
      .addColumn('draining_ms', whole)
      .addColumn('ready_ms', whole)
      .addColumn('expires_ms', whole)
      .addColumn('update_started_ms', whole)
      .addColumn('completed_ms', whole)
      .addColumn('total_vms', whole, (c) => c.notNull())
      .addColumn('migrated_vms', whole, (c) => c.notNull())
      .addColumn('failed_vms', 'text', (c) => c.notNull())
      .addColumn('remaining_vms', 'text', (c) => c.notNull())
      .addColumn('error', 'text'),
  );
  const over = sql`state in ('completed', 'failed', 'cancelled')`;
  await sql`create unique index maintenance_active on maintenance (node_id) where not (${over})`.execute(db);
  await sql`create index maintenance_waiting on maintenance (fleet_group, requested_ms, id) where state = 'requested'`.execute(
    db,
  );
  const ofNode = db.schema.createIndex('maintenance_node').on('maintenance').columns(['node_id', 'ordinal']);
  await ofNode.unique().execute();

  await table('place', (t) =>
    t.addColumn('holder', 'text', (c) => c.primaryKey().notNull()).addColumn('granted_ms', whole, (c) => c.notNull()),
  );
  await table('place_domain', (t) =>
    t
      .addColumn('holder', 'text', (c) => c.notNull().references('place.holder').onDelete('cascade'))
      .addColumn('domain', 'text', (c) => c.notNull())
      .addPrimaryKeyConstraint('place_domain_key', ['domain', 'holder']),
  );
  await table('budget', (t) =>
    t
      .addColumn('domain', 'text', (c) => c.primaryKey().notNull())
      .addColumn('max_hosts', whole)
      .addColumn('max_percent', whole),
  );
  await table('gate', (t) => t.addColumn('id', whole, (c) => c.primaryKey().notNull()));
  await sql`insert into gate (id) values (1)`.execute(db);

  await table('outbox', (t) =>
    t
      .addColumn('node_id', 'text', (c) => c.notNull().references('node.id'))
      .addColumn('sequence', whole, (c) => c.notNull())
      .addColumn('kind', 'text', (c) => c.notNull().check(sql`kind in ('drain', 'uncordon')`))
      .addColumn('body', 'text', (c) => c.notNull())
      .addColumn('created_ms', whole, (c) => c.notNull())
      .addColumn('due_ms', whole, (c) => c.notNull())
      .addColumn('attempts', whole, (c) => c.notNull())
      .addColumn('delivered_ms', whole)
      .addColumn('error', 'text')
      .addPrimaryKeyConstraint('outbox_key', ['node_id', 'sequence']),
  );
  await sql`create index outbox_due on outbox (due_ms) where delivered_ms is null`.execute(db);

  await table('audit', (t) =>
    t
      .addColumn('subject', 'text', (c) => c.notNull())
      .addColumn('sequence', whole, (c) => c.notNull())
      .addColumn('at_ms', whole, (c) => c.notNull())
      .addColumn('actor', 'text', (c) => c.notNull())
      .addColumn('event', 'text', (c) => c.notNull())
      .addColumn('entry', 'text', (c) => c.notNull())
      .addColumn('hash', 'text', (c) => c.notNull())
      .addPrimaryKeyConstraint('audit_key', ['subject', 'sequence']),
  );
}

/** The latest drains of a group are asked for at any time, and maintenance is never deleted. */
async function drained(db: Kysely<unknown>): Promise<void> {
  await sql`create index maintenance_drained on maintenance (fleet_group, ready_ms)
    where total_vms > 0 and migrated_vms = total_vms`.execute(db);
}

/** Those who do not count where a budget is a share of a group. */
async function leftOut(db: Kysely<unknown>): Promise<void> {
  await sql`create index node_left_out on node (id) where state <> 'enrolled'`.execute(db);
}

async function auditSeals(db: Kysely<unknown>, engine: Database<unknown>['engine']): Promise<void> {
  const { whole, table } = tablesOf(db, engine);
  await table('audit_head', (t) =>
    t
      .addColumn('subject', 'text', (c) => c.primaryKey().notNull())
      .addColumn('sequence', whole, (c) => c.notNull())
      .addColumn('hash', 'text', (c) => c.notNull())
      .addColumn('is_sealed', whole, (c) => c.notNull()),
  );
  await sql`create index audit_head_open on audit_head (subject) where is_sealed = 0`.execute(db);
  await table('audit_seal', (t) =>
    t
      .addColumn('sequence', whole, (c) => c.primaryKey().notNull())
      .addColumn('at_ms', whole, (c) => c.notNull())
      .addColumn('entry', 'text', (c) => c.notNull())
      .addColumn('hash', 'text', (c) => c.notNull()),
  );
  await table('audit_sealer', (t) =>
    t
      .addColumn('id', whole, (c) => c.primaryKey().notNull())
      .addColumn('due_ms', whole, (c) => c.notNull())
      .addColumn('sequence', whole, (c) => c.notNull())
      .addColumn('hash', 'text', (c) => c.notNull()),
  );
  await sql`insert into audit_sealer (id, due_ms, sequence, hash) values (1, 0, 0, ${'0'.repeat(64)})`.execute(db);
  await sql`insert into audit_head (subject, sequence, hash, is_sealed) select subject, sequence, hash, 0 from audit as a
    where sequence = (select max(sequence) from audit as b where b.subject = a.subject)`.execute(db);
  await db.schema.createIndex('audit_at').on('audit').column('at_ms').execute();
}

/** When a holder was last heard of, and since when an invitation holds. */
async function heard(db: Kysely<unknown>, engine: Database<unknown>['engine']): Promise<void> {
  const { whole } = tablesOf(db, engine);
  await db.schema.alterTable('place').addColumn('heard_ms', whole).execute();
  await db.schema.alterTable('node_invite').addColumn('created_ms', whole).execute();
}

interface Places {
  place: { holder: string; granted_ms: number };
  place_domain: { holder: string; domain: string };
}

/** FleetLock ids and groups came in any case. Of those that differ in nothing else the one that came first keeps the place. */
async function oneCase(anyDb: Kysely<unknown>): Promise<void> {
  const db = anyDb as Kysely<Places>;
  const isLock = sql<boolean>`holder like 'fleetlock:%'`;
  const places = await db
    .selectFrom('place')
    .selectAll()
    .where(isLock)
    .orderBy('granted_ms')
    .orderBy('holder')
    .execute();
  const domains = await db.selectFrom('place_domain').selectAll().where(isLock).execute();
  await db.deleteFrom('place_domain').where(isLock).execute();
  await db.deleteFrom('place').where(isLock).execute();
  for (const [holder, ofOne] of Map.groupBy(places, (place) => foldCase(place.holder))) {
    const [first] = ofOne;
    if (first === undefined) continue;
    await db
      .insertInto('place')
      .values({ ...first, holder })
      .execute();
    const counted = domains.filter((one) => one.holder === first.holder).map(({ domain }) => foldCase(domain));
    for (const domain of new Set(counted)) await db.insertInto('place_domain').values({ holder, domain }).execute();
  }
}

/** By which two machines with one key are told from a host that restarted. */
async function boots(db: Kysely<unknown>, engine: Database<unknown>['engine']): Promise<void> {
  const { whole, table } = tablesOf(db, engine);
  await db.schema.alterTable('maintenance').addColumn('began_boot', 'text').execute();
  await table('node_boot', (t) =>
    t
      .addColumn('node_id', 'text', (c) => c.notNull().references('node.id'))
      .addColumn('boot', 'text', (c) => c.notNull())
      .addColumn('state', 'text', (c) => c.notNull().check(sql`state in ('current', 'over', 'refused')`))
      .addColumn('since_ms', whole, (c) => c.notNull())
      .addPrimaryKeyConstraint('node_boot_key', ['node_id', 'boot']),
  );
  await table('node_conflict', (t) =>
    t
      .addColumn('node_id', 'text', (c) => c.primaryKey().notNull().references('node.id'))
      .addColumn('since_ms', whole, (c) => c.notNull()),
  );
}

/** Which keys of the server a host would believe. */
async function toldPins(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('node').addColumn('told_pins', 'text').execute();
}
