import type { Kysely, Transaction } from 'kysely';

/** Where a server keeps what outlives it: SQLite in a file of its own, or a PostgreSQL that several servers share. */
export interface Database<Tables> {
  readonly engine: 'sqlite' | 'postgres';
  /** For reading alone. */
  readonly db: Kysely<Tables>;
  /**
   * All of it or nothing, and on the medium when it resolves. Run again from its beginning where the database asks for that,
   * so `work` waits for nothing but the transaction that it is given, and changes nothing else.
   * @throws QxError STATE_UNREACHABLE, or what `work` throws
   */
  change<T>(work: (transaction: Transaction<Tables>) => Promise<T>): Promise<T>;
  /** Its own clock, by which all who share it can agree. Left out where it has none. */
  readonly nowMs?: () => Promise<number>;
  close(): Promise<void>;
}
