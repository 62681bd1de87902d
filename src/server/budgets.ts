import { type Budget, STANDARD_BUDGETS } from '../core/drain.ts';
import { QxError } from '../errors.ts';
import type { BUDGET_ROUTES, BudgetLimits, BudgetRow } from '../format/budget-routes.ts';
import type { Handlers } from '../ports/serving.ts';
import { actorOf, record } from './audit.ts';
import { holderOf } from './maintenance/grants.ts';
import type { Maintenance } from './maintenance/host.ts';
import { lockGate } from './places.ts';
import type { Change } from './store.ts';

/** Budgets as operators set them. Who waits for a place hears of a wider one within seconds. */
export function budgetHandlers(m: Maintenance): Handlers<typeof BUDGET_ROUTES> {
  const { store, clock } = m;
  const inGate = <T>(work: (change: Change) => Promise<T>): Promise<T> =>
    store.change(async (change) => {
      await lockGate(store, change);
      return work(change);
    });
  const note = (change: Change, actor: string, event: string, fields: Record<string, string | number | null>) =>
    record(change, { subject: 'budget', actor, event, fields, atMs: clock.nowMs() });
  return {
    budgets: async () => {
      const rows = await store.db.selectFrom('budget').selectAll().orderBy('domain').execute();
      const set = rows.map((row): BudgetRow => ({ ...row, is_standard: false }));
      const standard = STANDARD_BUDGETS.filter(({ domain }) => rows.every((row) => row.domain !== domain));
      return { json: { budgets: [...set, ...standard.map(standardRow)], away: await away(m) } };
    },
    setBudget: async ({ params: { domain }, body, principal }) => {
      if (body.max_hosts === null && body.max_percent === null) {
        throw new QxError('BAD_REQUEST', 'a budget is a number of hosts, a percentage, or both', {
          next: 'for the standard one again: qx-fleet budget unset',
        });
      }
      await inGate(async (change) => {
        await put(change, domain, body);
        await note(change, actorOf(principal), 'budget_set', { domain, ...body });
      });
      return { json: { domain, ...body, is_standard: false } };
    },
    unsetBudget: async ({ params: { domain }, principal }) => {
      await inGate(async (change) => {
        const gone = await change.deleteFrom('budget').where('domain', '=', domain).executeTakeFirst();
        if (Number(gone.numDeletedRows) === 0)
          throw new QxError('NOT_FOUND', `nobody has set a budget for ${domain}`, { next: 'qx-fleet budget list' });
        await note(change, actorOf(principal), 'budget_unset', { domain });
      });
      return { json: { status: 'deleted', domain } };
    },
  };
}

const standardRow = ({ domain, maxHosts, maxPercent }: Budget): BudgetRow => ({
  domain,
  max_hosts: maxHosts,
  max_percent: maxPercent,
  is_standard: true,
});

const put = (change: Change, domain: string, limits: BudgetLimits) =>
  change
    .insertInto('budget')
    .values({ domain, ...limits })
    .onConflict((conflict) => conflict.column('domain').doUpdateSet(limits))
    .execute();

async function away({ store: { db } }: Maintenance) {
  const places = await db.selectFrom('place').selectAll().orderBy('granted_ms').execute();
  const domains = await db.selectFrom('place_domain').selectAll().orderBy('domain').execute();
  const nodes = await db.selectFrom('node').select(['id', 'name']).execute();
  const names = new Map(nodes.map(({ id, name }) => [holderOf(id), name]));
  return places.map(({ holder, granted_ms }) => ({
    holder: names.get(holder) ?? holder,
    domains: domains.filter((one) => one.holder === holder).map(({ domain }) => domain),
    since: new Date(granted_ms).toISOString(),
  }));
}
