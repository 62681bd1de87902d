import { setImmediate, setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { allowedIn, budgetOf } from '../../src/core/drain.ts';
import { QxError } from '../../src/errors.ts';
import { ACTIVE_STATES, MAINTENANCE, type MaintenanceState } from '../../src/format/maintenance.ts';
import { firstBroken } from '../../src/server/audit.ts';
import { type Maintenance, maintenanceOf } from '../../src/server/maintenance/host.ts';
import { cancelMaintenance, forceMaintenance } from '../../src/server/maintenance/operate.ts';
import { dueNow } from '../../src/server/maintenance/schedule.ts';
import { completeMaintenance, proceed, requestMaintenance, takeDrainProgress } from '../../src/server/maintenance.ts';
import type { MaintenanceTable, Store } from '../../src/server/store.ts';
import { recordedLog } from '../support/fakes.ts';
import { enrol, type FleetClock, fleetClock, GRANT_TTL_MS, serverOn, setBudget } from '../support/fleet-state.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

/** Hosts, control plane, operators and two servers in any order and at once, with answers that get lost. */

const HOSTS = ['h0', 'h1', 'h2', 'h3', 'h4'];
const BUDGETS = [
  { domain: 'group:default', maxHosts: 2, maxPercent: null },
  { domain: 'rack', maxHosts: 1, maxPercent: null },
];
const TIMEOUT_MS = 3_600_000;

type Step =
  | { readonly do: 'request' | 'cancel' | 'give up' | 'force' | 'tick'; readonly host: number }
  | {
      readonly do: 'progress';
      readonly host: number;
      readonly isEmpty: boolean;
      readonly fails: boolean;
      readonly late: number;
    }
  | {
      readonly do: 'proceed';
      readonly host: number;
      readonly state: 'updating' | 'rebooting' | 'verifying';
      readonly late: number;
    }
  | { readonly do: 'complete'; readonly host: number; readonly success: boolean }
  | { readonly do: 'wait'; readonly ms: number };

const host = fc.nat(HOSTS.length - 1);
/** How many drains ago it was true. */
const late = fc.constantFrom(0, 0, 0, 0, 1);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constantFrom('request', 'request', 'request', 'cancel', 'give up', 'force', 'tick'), host }),
  fc.record({
    do: fc.constant('progress'),
    host,
    isEmpty: fc.boolean(),
    fails: fc.constantFrom(false, false, true),
    late,
  }),
  fc.record({ do: fc.constant('progress'), host, isEmpty: fc.constant(true), fails: fc.constant(false), late }),
  fc.record({ do: fc.constant('proceed'), host, state: fc.constantFrom('updating', 'rebooting', 'verifying'), late }),
  fc.record({ do: fc.constant('complete'), host, success: fc.boolean() }),
  fc.record({ do: fc.constant('wait'), ms: fc.constantFrom(1000, GRANT_TTL_MS + 1, TIMEOUT_MS + 1, -GRANT_TTL_MS) }),
) as fc.Arbitrary<Step>;

/** Steps that are taken at once, by one server or the other, each maybe twice, and maybe without its answer. */
const anyRound = fc.array(
  fc.record({
    step: anyStep,
    server: fc.nat(1),
    twice: fc.boolean(),
    loses: fc.constantFrom('nothing', 'nothing', 'the answer', 'the change'),
  }),
  { minLength: 1, maxLength: 4 },
);

/** A server that is killed before or after its transaction is on the medium. */
function dying(store: Store, loses: 'the answer' | 'the change'): Store {
  return {
    ...store,
    change: async (work) => {
      const done = await store.change(async (change) => {
        const result = await work(change);
        if (loses === 'the change') throw new Error('killed');
        return result;
      });
      if (loses === 'the answer') throw new Error('killed');
      return done;
    },
  };
}

/** What the world knows that the database may not: where a host was said to be empty, and what was forced. */
interface World {
  readonly empty: Set<string>;
  readonly forced: Set<string>;
}

async function take(m: Maintenance, step: Step, time: FleetClock, world: World): Promise<unknown> {
  if (step.do === 'wait') {
    time.nowMs += step.ms;
    return undefined;
  }
  const node_id = HOSTS[step.host] ?? '';
  const actor = `node ${node_id}`;
  const now = await maintenanceOf(m, node_id);
  const epoch = now.fencing_token ?? 1;
  switch (step.do) {
    case 'request':
      return requestMaintenance(m, { node_id, target_version: '2.0.0', update_type: 'full' }, actor);
    case 'cancel':
      return cancelMaintenance(m, node_id, { actor, isItself: true });
    case 'give up':
      return cancelMaintenance(m, node_id, { actor: 'operator alice', isItself: false });
    case 'force':
      // What it forces may have begun a drain by then.
      for (const next of [0, 1]) world.forced.add(`${node_id} ${epoch + next}`);
      return forceMaintenance(m, node_id, { actor: 'admin alice', reason: 'a test' });
    case 'tick':
      return dueNow({ maintenance: m, drainTimeoutMs: TIMEOUT_MS, log: recordedLog() });
    case 'progress': {
      const about = Math.max(1, epoch - step.late);
      if (step.isEmpty && !step.fails) world.empty.add(`${node_id} ${about}`);
      const counts = { total_vms: 2, migrated_vms: step.isEmpty ? 2 : 1, remaining_vms: step.isEmpty ? [] : ['vm'] };
      const more = step.fails ? { error: 'no host has room' } : {};
      return takeDrainProgress(
        m,
        { node_id, epoch: about, ...counts, completed: step.isEmpty, ...more },
        'control-plane',
      );
    }
    case 'proceed': {
      const meant = { maintenance_id: now.maintenance_id ?? 'none', fencing_token: Math.max(1, epoch - step.late) };
      return proceed(m, { node_id, state: step.state, ...meant }, actor);
    }
    case 'complete':
      return completeMaintenance(m, { node_id, success: step.success }, actor);
  }
}

/** Refusals and deaths are part of the game; what was not foreseen is not. */
function tolerate(error: unknown): void {
  if (error instanceof QxError && error.code !== 'INTERNAL' && error.code !== 'STATE_UNREACHABLE') return;
  if (error instanceof Error && error.message === 'killed') return;
  throw error;
}

type Rows = readonly (MaintenanceTable & { readonly name: string })[];

async function expectSound(store: Store, world: World, before: Rows): Promise<Rows> {
  const { db } = store;
  const rows: Rows = await db
    .selectFrom('maintenance')
    .innerJoin('node', 'node.id', 'node_id')
    .selectAll('maintenance')
    .select('node.name')
    .orderBy('ordinal')
    .execute();
  const places = await db.selectFrom('place_domain').selectAll().execute();
  const held = new Set((await db.selectFrom('place').select('holder').execute()).map(({ holder }) => holder));

  const domains = new Set(places.map(({ domain }) => domain));
  for (const domain of domains) {
    const used = places.filter((place) => place.domain === domain).length;
    expect(used, `away in ${domain}`).toBeLessThanOrEqual(allowedIn(budgetOf(domain, BUDGETS), HOSTS.length));
  }
  expect(new Set(places.map(({ holder }) => holder)), 'no place without what it counts in').toEqual(held);

  for (const name of HOSTS) {
    const own = rows.filter((row) => row.name === name);
    expect(own.filter(({ state }) => ACTIVE_STATES.includes(state)).length, `active of ${name}`).toBeLessThanOrEqual(1);
    const latest = own.at(-1);
    if (latest === undefined) continue;
    const mayHold = !['requested', 'completed', 'cancelled'].includes(latest.state);
    const mustHold = mayHold && latest.state !== 'failed';
    const holds = held.has(`node:${latest.node_id}`);
    if (mustHold) expect(holds, `${name} is ${latest.state} without a place`).toBe(true);
    if (!mayHold) expect(holds, `${name} is ${latest.state} and holds a place`).toBe(false);
  }
  for (const old of before.filter(({ state }) => !ACTIVE_STATES.includes(state))) {
    expect(rows.find(({ id }) => id === old.id)?.state, 'what is over stays as it was').toBe(old.state);
  }
  for (const { name, epoch, state } of rows) {
    if (!['ready', 'updating', 'rebooting', 'verifying'].includes(state)) continue;
    const wasTold = world.empty.has(`${name} ${epoch}`) || world.forced.has(`${name} ${epoch}`);
    expect(wasTold, `${name} is ${state} in drain ${epoch}, which nobody said was empty`).toBe(true);
  }
  return rows;
}

/** Each row of the trail is a transition of the table, and follows the one before it. */
async function expectTrail(store: Store): Promise<void> {
  const { db } = store;
  const rows = await db.selectFrom('maintenance').selectAll().execute();
  const trail = await db.selectFrom('audit').selectAll().orderBy('subject').orderBy('sequence').execute();
  for (const subject of new Set(trail.map((row) => row.subject))) expect(await firstBroken(db, subject)).toBeNull();
  for (const { id, state } of rows) {
    const moves = trail
      .map(({ event, entry }) => ({ to: event.replace('maintenance_', ''), ...JSON.parse(entry) }))
      .filter(({ maintenance_id }) => maintenance_id === id);
    let at: MaintenanceState = 'none';
    for (const { from, to } of moves) {
      expect(from).toBe(at);
      expect(Object.values(MAINTENANCE[at])).toContain(to);
      at = to;
    }
    expect(state).toBe(at);
  }
}

onBothEngines('hosts, operators, a control plane and two servers at once', (freshUrl) => {
  test('never break what maintenance promises', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyRound, { minLength: 5, maxLength: 25 }), async (rounds) => {
        const store = await openStore(await freshUrl());
        const time = fleetClock();
        const world: World = { empty: new Set(), forced: new Set() };
        await enrol(store, ...HOSTS.map((name, i) => ({ name, labels: { rack: `r${i % 3}` } })));
        for (const { domain, maxHosts } of BUDGETS) await setBudget(store, domain, { hosts: maxHosts ?? 0 });
        const other = store.engine === 'postgres' ? await openStore(store.url) : store;
        let rows: Rows = [];
        for (const round of rounds) {
          const moves = round.flatMap(({ step, server, twice, loses }) => {
            const alive = server === 0 ? store : other;
            const m = serverOn(loses === 'nothing' ? alive : dying(alive, loses as 'the answer'), time);
            return Array.from({ length: twice ? 2 : 1 }, () => take(m, step, time, world).catch(tolerate));
          });
          await Promise.all(moves);
          rows = await expectSound(store, world, rows);
        }
        await expectTrail(store);
      }),
      { numRuns: Number(process.env.QX_RUNS ?? 15) },
    );
  });

  test('thirty hosts that ask two servers at the same moment: never one too many is away, and all come to their turn', async () => {
    const store = await openStore(await freshUrl());
    const other = store.engine === 'postgres' ? await openStore(store.url) : store;
    const names = Array.from({ length: 30 }, (_, i) => `h${i}`);
    await enrol(store, ...names.map((name) => ({ name })));
    await setBudget(store, 'group:default', { hosts: 3 });
    const servers = [store, other].map((one) => serverOn(one, fleetClock()));
    const most = { away: 0, isOver: false };
    const watch = async (): Promise<void> => {
      while (!most.isOver) {
        const { length } = await store.db.selectFrom('place').select('holder').execute();
        most.away = Math.max(most.away, length);
        await setImmediate();
      }
    };
    const update = async (node_id: string, m: Maintenance): Promise<void> => {
      const actor = `node ${node_id}`;
      let now = await requestMaintenance(m, { node_id, target_version: '2.0.0', update_type: 'full' }, actor);
      for (; now.state === 'requested'; now = await maintenanceOf(m, node_id)) await setTimeout(5);
      const epoch = now.fencing_token ?? 0;
      await takeDrainProgress(m, { node_id, epoch, total_vms: 0, migrated_vms: 0, completed: true }, 'control-plane');
      await completeMaintenance(m, { node_id, success: true }, actor);
    };
    const watching = watch();
    await Promise.all(names.map((name, i) => update(name, servers[i % 2] as Maintenance))).finally(() => {
      most.isOver = true;
    });
    await watching;
    expect(most.away).toBe(3);
    const states = await store.db.selectFrom('maintenance').select('state').execute();
    expect(states.map(({ state }) => state)).toEqual(names.map(() => 'completed'));
  });
});
