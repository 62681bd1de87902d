import { expect, test } from 'vitest';
import type { BudgetLimits } from '../../src/format/budget-routes.ts';
import type { Call, Principal } from '../../src/ports/serving.ts';
import { firstBroken } from '../../src/server/audit.ts';
import { budgetHandlers } from '../../src/server/budgets.ts';
import { maintenanceOf } from '../../src/server/maintenance/host.ts';
import { dueNow } from '../../src/server/maintenance/schedule.ts';
import { requestMaintenance } from '../../src/server/maintenance.ts';
import { recordedLog } from '../support/fakes.ts';
import { enrol, fleetClock, serverOn } from '../support/fleet-state.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

const ALICE: Principal = { kind: 'operator', name: 'alice', role: 'admin' };

onBothEngines('budgets', (freshUrl) => {
  async function setUp() {
    const store = await openStore(await freshUrl());
    await enrol(store, { name: 'a' }, { name: 'b' });
    const m = serverOn(store, fleetClock());
    const handlers = budgetHandlers(m);
    const about = (domain: string, body?: BudgetLimits) =>
      ({ params: { domain }, body, principal: ALICE }) as unknown as Call<never>;
    return {
      store,
      m,
      set: (domain: string, body: BudgetLimits) => handlers.setBudget(about(domain, body)),
      unset: (domain: string) => handlers.unsetBudget(about(domain)),
      see: async () =>
        ((await handlers.budgets({} as Call<never>)) as { json: { budgets: unknown; away: unknown } }).json,
      ask: (node_id: string) =>
        requestMaintenance(m, { node_id, target_version: '2.0.0', update_type: 'full' }, node_id),
      tick: () => dueNow({ maintenance: m, drainTimeoutMs: 3_600_000, log: recordedLog() }),
    };
  }

  test('are the standard ones until somebody sets one; what is set is in the audit trail', async () => {
    const { see, set, unset, store } = await setUp();
    const pair = { domain: 'ha-pair', max_hosts: 1, max_percent: null, is_standard: true };
    const any = { domain: 'group:*', max_hosts: 1, max_percent: null, is_standard: true };
    expect((await see()).budgets).toEqual([any, pair]);
    await set('group:*', { max_hosts: null, max_percent: 10 });
    await set('group:*', { max_hosts: 5, max_percent: 10 });
    expect((await see()).budgets).toEqual([
      { domain: 'group:*', max_hosts: 5, max_percent: 10, is_standard: false },
      pair,
    ]);
    await unset('group:*');
    expect((await see()).budgets).toEqual([any, pair]);
    const trail = await store.db.selectFrom('audit').select(['actor', 'event']).orderBy('sequence').execute();
    expect(trail.map(({ actor, event }) => `${actor}: ${event}`)).toEqual([
      'admin alice: budget_set',
      'admin alice: budget_set',
      'admin alice: budget_unset',
    ]);
    expect(await firstBroken(store.db, 'budget')).toBeNull();
  });

  test('that say nothing are refused, and so is taking back what nobody set', async () => {
    const { set, unset, store } = await setUp();
    await expect(set('rack', { max_hosts: null, max_percent: null })).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    await expect(unset('rack')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await store.db.selectFrom('audit').selectAll().execute()).toEqual([]);
  });

  test('that become wider let those in who wait; narrower ones call nobody back', async () => {
    const { m, set, see, ask, tick } = await setUp();
    await ask('a');
    await ask('b');
    expect((await maintenanceOf(m, 'b')).state).toBe('requested');
    await set('group:default', { max_hosts: 2, max_percent: null });
    await tick();
    expect((await maintenanceOf(m, 'b')).state).toBe('draining');
    await set('group:default', { max_hosts: 0, max_percent: null });
    await tick();
    const since = '2026-11-10T12:00:00.000Z';
    expect((await see()).away).toEqual(
      expect.arrayContaining(['a', 'b'].map((holder) => ({ holder, domains: ['group:default'], since }))),
    );
  });

  test('that are a share are one of the hosts that are enrolled: neither invited nor revoked ones make it larger', async () => {
    const { store, m, set, ask, tick } = await setUp();
    await set('group:default', { max_hosts: null, max_percent: 50 });
    await enrol(store, { name: 'c' }, { name: 'd' });
    const become = (name: string, state: 'pending' | 'revoked') =>
      store.change((change) => change.updateTable('node').set({ state }).where('name', '=', name).execute());
    await become('c', 'pending');
    await become('d', 'revoked');
    await ask('a');
    await ask('b');
    expect((await maintenanceOf(m, 'b')).message).toContain('group:default has 1 away, at most 1 may be');
    await store.change((change) =>
      change.updateTable('node').set({ state: 'enrolled' }).where('name', '=', 'c').execute(),
    );
    await tick();
    expect((await maintenanceOf(m, 'b')).state).toBe('draining');
  });

  test('that let several in at once let in as many as there is room for', async () => {
    const { store, m, set, ask, tick } = await setUp();
    await enrol(store, { name: 'c' }, { name: 'd' });
    await set('group:default', { max_hosts: 0, max_percent: null });
    for (const name of ['a', 'b', 'c', 'd']) await ask(name);
    await set('group:default', { max_hosts: 3, max_percent: null });
    await tick();
    const states = await Promise.all(['a', 'b', 'c', 'd'].map(async (name) => (await maintenanceOf(m, name)).state));
    expect(states.toSorted()).toEqual(['draining', 'draining', 'draining', 'requested']);
  });
});
