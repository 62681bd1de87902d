import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import {
  Kysely,
  PostgresDialect,
  type PostgresPool,
  type PostgresPoolClient,
  type SqliteDatabase,
  SqliteDialect,
  sql,
  type Transaction,
} from 'kysely';
import pg from 'pg';
import { QxError } from '../errors.ts';
import type { Database } from '../ports/database.ts';
import { makeDirectories } from './durable.ts';

/** The two engines behind `Database`. What differs between them for whoever asks is in `server/store.ts`. */

/** `sqlite:/absolute/path` or `postgres://...`. @throws QxError CONFIG_INVALID | STATE_UNREACHABLE */
export async function openDatabase<Tables>(url: string): Promise<Database<Tables>> {
  if (url.startsWith('sqlite:/')) return openSqlite(url.slice('sqlite:'.length));
  if (/^postgres(?:ql)?:\/\//.test(url)) return openPostgres(url);
  throw new QxError('CONFIG_INVALID', 'STATE_DATABASE_URL is not like sqlite:/PATH or postgres://USER@HOST/NAME');
}

/** A statement that waits for another process's lock longer than this fails; there is no other but a backup. */
const BUSY_MS = 10_000;

async function openSqlite<Tables>(path: string): Promise<Database<Tables>> {
  // Node's own would try for ever where no folder can be made, such as in /proc.
  await makeDirectories(dirname(path), 0o700);
  const umask = process.umask(0o077);
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: sqliteFile(path) }) });
  process.umask(umask);
  return {
    engine: 'sqlite',
    db,
    change: (work) => db.transaction().execute(work),
    close: () => db.destroy(),
  };
}

/**
 * One connection for everything: the calls of node:sqlite do not return before they are done, so a second one could not read
 * while the first writes. `synchronous = full`: what was granted must not be forgotten by a power cut.
 */
function sqliteFile(path: string): SqliteDatabase {
  const file = new DatabaseSync(path, { timeout: BUSY_MS, enableForeignKeyConstraints: true });
  file.exec('pragma journal_mode = wal; pragma synchronous = full;');
  return {
    close: () => file.close(),
    prepare: (text) => {
      // Only one that writes takes the lock at once: upgrading a read lock in the middle could fail.
      const statement = file.prepare(text === 'begin' ? 'begin immediate' : text);
      const values = (parameters: readonly unknown[]) => parameters as (string | number | null)[];
      return {
        reader: statement.columns().length > 0,
        all: (parameters) => statement.all(...values(parameters)),
        run: (parameters) => statement.run(...values(parameters)),
        iterate: (parameters) => statement.iterate(...values(parameters)),
      };
    },
  };
}

const POOL = 10;
const CONNECT_MS = 5000;
const STATEMENT_MS = 30_000;
/** Numbers of this size are counters and times in milliseconds, which JavaScript holds exactly. */
const INT8 = 20;

function openPostgres<Tables>(url: string): Database<Tables> {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: STATEMENT_MS,
    idle_in_transaction_session_timeout: STATEMENT_MS,
    application_name: 'qx-update-server',
    // Here and not with kysely, which forgets a connection that is lost in the middle of this: ten of them, and no more came.
    onConnect: durable,
    types: { getTypeParser: (id, format) => (id === INT8 ? Number : pg.types.getTypeParser(id, format)) },
  });
  // A connection that ends: unused, the next query opens another one; in use, its query says so. Unheard, it would end us.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => void client.on('error', () => undefined));
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool: tellingOfFailure(pool) }) });
  const nowMs = async (): Promise<number> => {
    // Not now(), which is when the transaction began.
    const { rows } = await sql<{
      ms: number;
    }>`select (extract(epoch from clock_timestamp()) * 1000)::bigint as ms`.execute(db);
    return Number(rows[0]?.ms);
  };
  return { engine: 'postgres', db, change: (work) => again(db, work), nowMs, close: () => db.destroy() };
}

/** Every way in which the database may be out of reach has one code, whatever was asked of it. */
const tellingOfFailure = (pool: pg.Pool): PostgresPool => ({
  options: pool.options,
  end: () => pool.end(),
  connect: () => pool.connect().then(tellingClient, asUnreachable),
});

const tellingClient = (client: pg.PoolClient): PostgresPoolClient =>
  ({
    query: (text: string, values: unknown[]) => client.query(text, values).catch(asUnreachable),
    release: (destroy?: boolean) => client.release(destroy),
  }) as unknown as PostgresPoolClient;

function asUnreachable(error: Error & { readonly code?: string }): never {
  // The driver has no codes of its own for a connection that ended under a query, or that nobody opened in time.
  const isLost = /^Connection terminated|^timeout exceeded when trying to connect|^Client has encountered/.test(
    error.message,
  );
  if (!isLost && !UNREACHABLE.test(error.code ?? '')) throw error;
  throw new QxError('STATE_UNREACHABLE', `the state database does not answer: ${error.message}`, {
    cause: error,
    next: 'see whether the PostgreSQL of STATE_DATABASE_URL runs',
  });
}

/** Whatever the administrator of the database prefers: what was granted must not be forgotten by a power cut. */
const durable = (client: pg.ClientBase): Promise<unknown> => client.query('set synchronous_commit = on');

const ATTEMPTS = 5;
/** Serialisation failure, and a deadlock that the database resolved at our cost. */
const TRY_AGAIN = ['40001', '40P01'];
/** Class 08: the connection; 57P0x: the database stops or starts; 53300: too many connections. */
const UNREACHABLE = /^(?:08...|57P0.|53300|ECONN.*|EPIPE|ENOENT|ENOTFOUND|ETIMEDOUT|EAI_AGAIN)$/;

async function again<Tables, T>(db: Kysely<Tables>, work: (transaction: Transaction<Tables>) => Promise<T>) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await db.transaction().execute(work);
    } catch (error) {
      const { code } = error as { readonly code?: unknown };
      if (!TRY_AGAIN.includes(String(code)) || attempt >= ATTEMPTS) throw error;
    }
  }
}
