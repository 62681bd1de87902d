import { sql } from 'kysely';
import { QxError } from '../../errors.ts';
import { type Change, locked, type NodeTable, type Reading, type Store } from '../store.ts';

/** By name among those that are not revoked, by id among all. @throws QxError NODE_UNKNOWN */
export async function findNode(db: Reading, nameOrId: string): Promise<NodeTable> {
  const nodes = db.selectFrom('node').selectAll();
  const named = nodes.where('name', '=', nameOrId);
  // One after the other: each is a look into an index, and of an `or` of them the engines make a walk through all hosts.
  const found =
    (await nodes.where('id', '=', nameOrId).executeTakeFirst()) ??
    (await named.where(sql<boolean>`state <> 'revoked'`).executeTakeFirst()) ??
    (await named.orderBy('created_ms', 'desc').limit(1).executeTakeFirst());
  if (found !== undefined) return found;
  throw new QxError('NODE_UNKNOWN', `this fleet has no host ${nameOrId}`, { next: 'qx-fleet node list' });
}

/** Held until the transaction ends: two that change a host are one after the other. */
export const lockNode = (store: Pick<Store, 'engine'>, change: Change, id: string): Promise<NodeTable> =>
  locked(store, change.selectFrom('node').selectAll().where('id', '=', id)).executeTakeFirstOrThrow();
