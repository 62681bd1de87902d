import { QxError } from '../../errors.ts';
import { type Change, locked, type NodeTable, type Reading, type Store } from '../store.ts';

/** By name among those that are not revoked, by id among all. @throws QxError NODE_UNKNOWN */
export async function findNode(db: Reading, nameOrId: string): Promise<NodeTable> {
  const rows = await db
    .selectFrom('node')
    .selectAll()
    .where((is) => is.or([is('id', '=', nameOrId), is('name', '=', nameOrId)]))
    .execute();
  const found =
    rows.find(({ id }) => id === nameOrId) ??
    rows.find(({ state }) => state !== 'revoked') ??
    rows.toSorted((a, b) => b.created_ms - a.created_ms)[0];
  if (found !== undefined) return found;
  throw new QxError('NODE_UNKNOWN', `this fleet has no host ${nameOrId}`, { next: 'qx-fleet node list' });
}

/** Held until the transaction ends: two that change a host are one after the other. */
export const lockNode = (store: Pick<Store, 'engine'>, change: Change, id: string): Promise<NodeTable> =>
  locked(store, change.selectFrom('node').selectAll().where('id', '=', id)).executeTakeFirstOrThrow();
