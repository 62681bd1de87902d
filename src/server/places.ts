import { sql } from 'kysely';
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

/** Holders that are hosts of other systems: `fleetlock:GROUP/ID`. */
export const FLEETLOCK_HOLDER = 'fleetlock:';

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

type Counts = ReadonlyMap<string, number>;

export const isFull = ({ used, allowed }: Occupied): boolean => used >= allowed;

/** Those of the domains in which nobody else may go. */
export async function fullAmong(db: Reading | Change, domains: readonly string[]): Promise<readonly Occupied[]> {
  const budgets = await budgetsOf(db);
  const limited = domains.filter((domain) => budgetOf(domain, budgets) !== null);
  if (limited.length === 0) return [];
  const used = await countsOf(placesByDomain(db).where('domain', 'in', limited));
  return (await heldAgainst(db, budgets, limited, used)).filter(isFull);
}

/** Every domain that somebody is away from. */
export async function occupied(db: Reading | Change): Promise<readonly Occupied[]> {
  const used = await countsOf(placesByDomain(db));
  return heldAgainst(db, await budgetsOf(db), [...used.keys()], used);
}

async function heldAgainst(
  db: Reading | Change,
  budgets: readonly Budget[],
  domains: readonly string[],
  used: Counts,
): Promise<readonly Occupied[]> {
  const shared = domains.filter((domain) => (budgetOf(domain, budgets)?.maxPercent ?? null) !== null);
  const members = shared.length === 0 ? new Map<string, number>() : await enrolledIn(db, shared);
  return domains.map((domain) => ({
    domain,
    used: used.get(domain) ?? 0,
    allowed: allowedIn(budgetOf(domain, budgets), members.get(domain) ?? 0),
  }));
}

const placesByDomain = (db: Reading | Change) =>
  db
    .selectFrom('place_domain')
    .select(({ fn }) => ['domain', fn.countAll<number>().as('count')])
    .groupBy('domain');

/** Counted from its index, less the few that are left out: a group of ten thousand is counted several times for each place. */
async function enrolledIn(db: Reading | Change, domains: readonly string[]): Promise<Counts> {
  const hosts = db
    .selectFrom('node_domain')
    .select(({ fn }) => ['domain', fn.countAll<number>().as('count')])
    .where('domain', 'in', domains)
    .groupBy('domain');
  const all = await countsOf(hosts);
  const leftOut = await countsOf(
    hosts.innerJoin('node', 'node.id', 'node_domain.node_id').where(sql<boolean>`node.state <> 'enrolled'`),
  );
  return new Map([...all].map(([domain, count]) => [domain, count - (leftOut.get(domain) ?? 0)]));
}

async function countsOf(query: { execute(): Promise<readonly { domain: string; count: number }[]> }): Promise<Counts> {
  return new Map((await query.execute()).map(({ domain, count }) => [domain, Number(count)]));
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
  await change.insertInto('place').values({ holder, granted_ms: nowMs, heard_ms: null }).execute();
  await change
    .insertInto('place_domain')
    .values(domains.map((domain) => ({ holder, domain })))
    .execute();
  return [];
}

export const HEARD_EVERY_MS = 60_000;

/** The holder said something; written once a minute. Its place is its own, so no gate is needed. */
export async function heardOf(store: Pick<Store, 'change'>, holder: string, nowMs: number): Promise<void> {
  await store.change((change) =>
    change
      .updateTable('place')
      .set({ heard_ms: nowMs })
      .where('holder', '=', holder)
      .where(({ or, eb }) =>
        or([eb('heard_ms', 'is', null), eb('heard_ms', '<', nowMs - HEARD_EVERY_MS), eb('heard_ms', '>', nowMs)]),
      )
      .execute(),
  );
}

/** The gate is held. */
export async function givePlaceBack(change: Change, holder: string): Promise<void> {
  await change.deleteFrom('place_domain').where('holder', '=', holder).execute();
  await change.deleteFrom('place').where('holder', '=', holder).execute();
}

/** For people: why somebody waits. */
export const occupiedInWords = (full: readonly Occupied[]): string =>
  full.map(({ domain, used, allowed }) => `${domain} has ${used} away, at most ${allowed} may be`).join('; ');
