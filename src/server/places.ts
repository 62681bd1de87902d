import { allowedIn, type Budget, budgetOf } from '../core/drain.ts';
import { type Change, locked, type Reading, type Store } from './store.ts';

/**
 * Who may be away at this moment. Every decision about places holds the gate, one row that all servers share: it is asked for
 * a few times a second at most, and two servers can then never give out the last place twice.
 */

/** First in each transaction that takes or gives back places. */
export async function lockGate(store: Pick<Store, 'engine'>, change: Change): Promise<void> {
  await locked(store, change.selectFrom('gate').select('id').where('id', '=', 1)).executeTakeFirstOrThrow();
}

export interface Occupied {
  readonly domain: string;
  readonly used: number;
  readonly allowed: number;
}

const budgetsOf = async (db: Reading | Change): Promise<readonly Budget[]> =>
  (await db.selectFrom('budget').selectAll().execute()).map((row) => ({
    domain: row.domain,
    maxHosts: row.max_hosts,
    maxPercent: row.max_percent,
  }));

/** Those of the domains in which nobody else may go. */
export async function fullAmong(db: Reading | Change, domains: readonly string[]): Promise<readonly Occupied[]> {
  const budgets = await budgetsOf(db);
  const limited = domains.filter((domain) => budgetOf(domain, budgets) !== null);
  if (limited.length === 0) return [];
  const used = await countsOf(
    db
      .selectFrom('place_domain')
      .select(({ fn }) => ['domain', fn.countAll<number>().as('count')])
      .where('domain', 'in', limited)
      .groupBy('domain'),
  );
  const members = await countsOf(
    db
      .selectFrom('node_domain')
      .innerJoin('node', 'node.id', 'node_domain.node_id')
      .select(({ fn }) => ['domain', fn.countAll<number>().as('count')])
      .where('domain', 'in', limited)
      .where('node.state', '=', 'enrolled')
      .groupBy('domain'),
  );
  return limited
    .map((domain) => {
      const allowed = allowedIn(budgetOf(domain, budgets), members.get(domain) ?? 0);
      return { domain, used: used.get(domain) ?? 0, allowed };
    })
    .filter(({ used, allowed }) => used >= allowed);
}

async function countsOf(query: {
  execute(): Promise<readonly { domain: string; count: number }[]>;
}): Promise<ReadonlyMap<string, number>> {
  return new Map((await query.execute()).map(({ domain, count }) => [domain, Number(count)]));
}

/** Domains that hold somebody and no more: what a search for the next host need not look at. */
export async function fullDomains(db: Reading | Change): Promise<readonly string[]> {
  const inUse = await db.selectFrom('place_domain').select('domain').distinct().execute();
  const full = await fullAmong(
    db,
    inUse.map(({ domain }) => domain),
  );
  return full.map(({ domain }) => domain);
}

export const holdsPlace = async (db: Reading | Change, holder: string): Promise<boolean> =>
  (await db.selectFrom('place').select('holder').where('holder', '=', holder).executeTakeFirst()) !== undefined;

/** The gate is held. Empty: the holder has its place now, or had it already. */
export async function takePlace(
  change: Change,
  holder: string,
  domains: readonly string[],
  nowMs: number,
): Promise<readonly Occupied[]> {
  if (await holdsPlace(change, holder)) return [];
  const full = await fullAmong(change, domains);
  if (full.length > 0) return full;
  await change.insertInto('place').values({ holder, granted_ms: nowMs }).execute();
  await change
    .insertInto('place_domain')
    .values(domains.map((domain) => ({ holder, domain })))
    .execute();
  return [];
}

/** The gate is held. */
export async function givePlaceBack(change: Change, holder: string): Promise<void> {
  await change.deleteFrom('place_domain').where('holder', '=', holder).execute();
  await change.deleteFrom('place').where('holder', '=', holder).execute();
}

/** For people: why somebody waits. */
export const occupiedInWords = (full: readonly Occupied[]): string =>
  full.map(({ domain, used, allowed }) => `${domain} has ${used} away, at most ${allowed} may be`).join('; ');
