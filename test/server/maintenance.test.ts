import { describe, expect, test } from 'vitest';
import { ACTIVE_STATES, MAINTENANCE, MAINTENANCE_STATES, nextState } from '../../src/format/maintenance.ts';
import { firstBroken } from '../../src/server/audit.ts';
import { holderOf } from '../../src/server/maintenance/grants.ts';
import { type Maintenance, maintenanceOf } from '../../src/server/maintenance/host.ts';
import { cancelMaintenance, forceMaintenance, listMaintenance } from '../../src/server/maintenance/operate.ts';
import { dueNow } from '../../src/server/maintenance/schedule.ts';
import { completeMaintenance, proceed, requestMaintenance, takeDrainProgress } from '../../src/server/maintenance.ts';
import { findNode } from '../../src/server/nodes/rows.ts';
import { heardOf } from '../../src/server/places.ts';
import { recordedLog } from '../support/fakes.ts';
import { enrol, fleetClock, GRANT_TTL_MS, type NewNode, serverOn, setBudget } from '../support/fleet-state.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

describe('the states of a maintenance', () => {
  test('are those of the seed, and what is over knows no way on', () => {
    expect(MAINTENANCE_STATES).toEqual([
      'none',
      'requested',
      'draining',
      'ready',
      'updating',
      'rebooting',
      'verifying',
      'completed',
      'failed',
      'cancelled',
    ]);
    expect(MAINTENANCE_STATES.filter((state) => Object.keys(MAINTENANCE[state]).length === 0)).toEqual([
      'completed',
      'failed',
      'cancelled',
    ]);
  });

  test('nothing is cancelled once the host has begun, and everything can fail', () => {
    expect(ACTIVE_STATES.filter((state) => nextState(state, 'cancel') !== null)).toEqual([
      'requested',
      'draining',
      'ready',
    ]);
    expect(ACTIVE_STATES.filter((state) => nextState(state, 'fail') === null)).toEqual([]);
  });
});

const full = (node_id: string, target_version = '2.0.0') => ({ node_id, target_version, update_type: 'full' as const });

onBothEngines('maintenance', (freshUrl) => {
  async function setUp(nodes: readonly NewNode[], settings: Partial<Maintenance> = {}) {
    const store = await openStore(await freshUrl());
    await enrol(store, ...nodes);
    const time = fleetClock();
    const m = serverOn(store, time, settings);
    const schedule = { maintenance: m, drainTimeoutMs: 3_600_000, log: recordedLog() };
    return {
      store,
      time,
      m,
      tick: () => dueNow(schedule),
      ask: (name: string) => requestMaintenance(m, full(name), `node ${name}`),
      see: (name: string) => maintenanceOf(m, name),
      empty: async (name: string, epoch: number) =>
        takeDrainProgress(
          m,
          { node_id: name, epoch, total_vms: 2, migrated_vms: 2, remaining_vms: [], completed: true },
          'control-plane',
        ),
      step: async (name: string, state: 'updating' | 'rebooting' | 'verifying', token?: number) => {
        const { maintenance_id, fencing_token } = await maintenanceOf(m, name);
        const meant = { maintenance_id: maintenance_id ?? '', fencing_token: token ?? fencing_token ?? 0 };
        return proceed(m, { node_id: name, state, ...meant }, `node ${name}`);
      },
      complete: (name: string, success = true) => completeMaintenance(m, { node_id: name, success }, `node ${name}`),
      cancel: (name: string, isItself = false) => cancelMaintenance(m, name, { actor: 'operator alice', isItself }),
      force: (name: string) => forceMaintenance(m, name, { actor: 'admin alice', reason: 'rack on fire' }),
      outbox: () => store.db.selectFrom('outbox').select(['kind', 'sequence']).orderBy('sequence').execute(),
    };
  }

  test('a whole one: asked, drained, granted, rebooted, verified, complete, and the next host has the place', async () => {
    const { ask, see, empty, step, complete, outbox, store } = await setUp([{ name: 'qhci-01' }, { name: 'qhci-02' }]);
    const first = await ask('qhci-01');
    expect(first).toMatchObject({
      state: 'draining',
      approved: true,
      proceed_now: false,
      wait_seconds: 30,
      fencing_token: 1,
    });
    const second = await ask('qhci-02');
    expect(second).toMatchObject({ state: 'requested', approved: false, holds_place: false });
    expect(second.message).toContain('group:default has 1 away, at most 1 may be');

    expect(await empty('qhci-01', 1)).toMatchObject({ state: 'ready', proceed_now: true, vms_remaining: 0 });
    expect(await step('qhci-01', 'rebooting')).toMatchObject({ state: 'rebooting', proceed_now: false });
    expect(await step('qhci-01', 'verifying')).toMatchObject({ state: 'verifying' });
    expect(await complete('qhci-01')).toMatchObject({ state: 'completed', holds_place: false });
    expect(await see('qhci-02')).toMatchObject({ state: 'draining', holds_place: true });

    const { id } = await store.db
      .selectFrom('node')
      .select('id')
      .where('name', '=', 'qhci-01')
      .executeTakeFirstOrThrow();
    const trail = await store.db
      .selectFrom('audit')
      .select('event')
      .where('subject', '=', `node:${id}`)
      .orderBy('sequence')
      .execute();
    expect(trail.map(({ event }) => event.replace('maintenance_', ''))).toEqual([
      'requested',
      'draining',
      'ready',
      'rebooting',
      'verifying',
      'completed',
    ]);
    expect(await firstBroken(store.db, `node:${id}`)).toBeNull();
    expect((await outbox()).map(({ kind }) => kind).toSorted()).toEqual(['drain', 'drain', 'uncordon']);
  });

  test('defect 37: asked again, in every state, it is where it was', async () => {
    const { ask, empty, step } = await setUp([{ name: 'a' }]);
    const { maintenance_id } = await ask('a');
    expect(await ask('a')).toMatchObject({ state: 'draining', maintenance_id });
    await empty('a', 1);
    expect(await ask('a')).toMatchObject({ state: 'ready', proceed_now: true, maintenance_id });
    await step('a', 'rebooting');
    expect(await ask('a')).toMatchObject({ state: 'rebooting', maintenance_id });
  });

  test('a host that decides for a newer release before it begins keeps its drain', async () => {
    const { m, ask } = await setUp([{ name: 'a' }]);
    const { maintenance_id } = await ask('a');
    const newer = await requestMaintenance(m, full('a', '2.1.0'), 'node a');
    expect(newer).toMatchObject({ maintenance_id, target_version: '2.1.0', fencing_token: 1 });
  });

  test('defect 37: a late report changes nothing, whatever came after it', async () => {
    const { ask, empty, step, complete, see } = await setUp([{ name: 'a' }]);
    await ask('a');
    await empty('a', 1);
    const ready = await see('a');
    expect(await empty('a', 1)).toEqual(ready);
    await step('a', 'rebooting');
    expect(await empty('a', 1)).toMatchObject({ state: 'rebooting' });
    await complete('a');
    expect(await empty('a', 1)).toMatchObject({ state: 'completed' });
    expect(await complete('a', false)).toMatchObject({ state: 'completed' });
    await ask('a');
    await expect(empty('a', 1)).rejects.toMatchObject({ code: 'EPOCH_STALE' });
    expect(await see('a')).toMatchObject({ state: 'draining', fencing_token: 2 });
  });

  test('a report for a host that is not in maintenance is refused', async () => {
    const { empty, complete, cancel, force } = await setUp([{ name: 'a' }]);
    for (const attempt of [() => empty('a', 1), () => complete('a'), () => cancel('a'), () => force('a')]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'NOT_IN_MAINTENANCE' });
    }
    await expect(empty('nobody', 1)).rejects.toMatchObject({ code: 'NODE_UNKNOWN' });
  });

  test('a drain that leaves a VM behind is not completed', async () => {
    const { m, ask, see } = await setUp([{ name: 'a' }]);
    await ask('a');
    const report = { node_id: 'a', epoch: 1, total_vms: 2, migrated_vms: 1 };
    const lie = takeDrainProgress(m, { ...report, remaining_vms: ['vm-2'], completed: true }, 'control-plane');
    await expect(lie).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    const stuck = { ...report, remaining_vms: ['vm-2'], failed_vms: [{ vm: 'vm-2', reason: 'no memory' }, 'vm-3'] };
    await takeDrainProgress(m, { ...stuck, completed: false }, 'control-plane');
    expect(await see('a')).toMatchObject({
      state: 'draining',
      message: 'Draining VMs: 1/2 migrated',
      vms_remaining: 1,
      remaining_vms: ['vm-2'],
      failed_vms: [{ vm: 'vm-2', reason: 'no memory' }, { vm: 'vm-3' }],
    });
  });

  test('a grant that was not used in time is drained anew, and the old token counts for nothing', async () => {
    const { ask, empty, step, see, time } = await setUp([{ name: 'a' }]);
    await ask('a');
    await empty('a', 1);
    time.nowMs += GRANT_TTL_MS + 1;
    await expect(step('a', 'rebooting')).rejects.toMatchObject({ code: 'GRANT_LAPSED' });
    expect(await see('a')).toMatchObject({ state: 'draining', fencing_token: 2, proceed_now: false });
    await expect(step('a', 'rebooting', 1)).rejects.toMatchObject({ code: 'EPOCH_STALE' });
    await empty('a', 2);
    expect(await step('a', 'rebooting')).toMatchObject({ state: 'rebooting' });
    expect(await step('a', 'rebooting')).toMatchObject({ state: 'rebooting' });
  });

  test('nobody reboots who was not granted it', async () => {
    const { ask, step } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await expect(step('a', 'rebooting')).rejects.toMatchObject({ code: 'ILLEGAL_TRANSITION' });
    await ask('b');
    await expect(step('b', 'rebooting', 1)).rejects.toMatchObject({ code: 'EPOCH_STALE' });
  });

  test('cancelled before it begins, the place is free and the host may carry VMs again; later it cannot be', async () => {
    const { ask, empty, step, cancel, see, outbox } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await ask('b');
    await empty('a', 1);
    expect(await cancel('a')).toMatchObject({ state: 'cancelled', holds_place: false });
    expect((await outbox()).map(({ kind }) => kind).toSorted()).toEqual(['drain', 'drain', 'uncordon']);
    expect(await see('b')).toMatchObject({ state: 'draining' });
    await empty('b', 1);
    for (const state of ['updating', 'rebooting', 'verifying'] as const) {
      await step('b', state);
      await expect(cancel('b')).rejects.toMatchObject({ code: 'CANCEL_UNSAFE' });
    }
    await expect(cancel('a')).rejects.toMatchObject({ code: 'NOT_IN_MAINTENANCE' });
  });

  test('defect 37: a host that failed keeps its place, may ask again, and is given up by an operator only', async () => {
    const { m, ask, empty, step, cancel, complete, see } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await empty('a', 1);
    await step('a', 'rebooting');
    expect(await complete('a', false)).toMatchObject({ state: 'failed', holds_place: true });
    await ask('b');
    expect(await see('b')).toMatchObject({ state: 'requested' });
    expect((await listMaintenance(m)).map(({ node_id, state }) => [node_id, state])).toEqual([
      ['a', 'failed'],
      ['b', 'requested'],
    ]);
    await expect(cancel('a', true)).rejects.toMatchObject({ code: 'CANCEL_UNSAFE' });
    expect(await ask('a')).toMatchObject({ state: 'draining', fencing_token: 2 });
    await complete('a', false);
    expect(await cancel('a')).toMatchObject({ state: 'failed', holds_place: false });
    expect(await see('b')).toMatchObject({ state: 'draining' });
  });

  test('a component that needs no reboot waits for nobody and takes no place', async () => {
    const { m, ask, complete, see } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('b');
    const hot = { node_id: 'a', target_version: '2.0.0', update_type: 'component' as const, requires_reboot: false };
    expect(await requestMaintenance(m, hot, 'node a')).toMatchObject({
      state: 'ready',
      proceed_now: true,
      holds_place: false,
    });
    expect(await complete('a')).toMatchObject({ state: 'completed' });
    expect(await see('b')).toMatchObject({ state: 'draining', holds_place: true });
  });

  test('a host that carries no VMs is ready as soon as it has its place', async () => {
    const { ask, outbox } = await setUp([{ name: 'a', carriesVms: false }]);
    expect(await ask('a')).toMatchObject({ state: 'ready', drain_by: 'nobody', fencing_token: 1 });
    expect(await outbox()).toEqual([]);
  });

  test('forced, a host does not wait until it is empty, but it still needs a place', async () => {
    const { m, ask, force, see } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await ask('b');
    await expect(requestMaintenance(m, { ...full('a'), force: true }, 'node a')).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
    expect(await force('a')).toMatchObject({ state: 'ready', proceed_now: true });
    await expect(force('b')).rejects.toMatchObject({ code: 'NO_PLACE' });
    expect(await see('b')).toMatchObject({ state: 'requested' });
  });

  test('a drain without an end fails, gives its place to the next, lets VMs come back, and says which is in the way', async () => {
    const { m, ask, tick, see, time, outbox } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await ask('b');
    const failed_vms = [{ vm: 'gpu-1', reason: 'a device is passed through' }];
    const progress = { node_id: 'a', epoch: 1, total_vms: 2, migrated_vms: 1, failed_vms, completed: false };
    await takeDrainProgress(m, progress, 'control-plane');
    time.nowMs += 3_599_000;
    await tick();
    expect(await see('a')).toMatchObject({ state: 'draining' });
    time.nowMs += 2000;
    await tick();
    expect(await see('a')).toMatchObject({
      state: 'failed',
      holds_place: false,
      error_message: 'the drain did not end within 60 minutes; still there: gpu-1: a device is passed through',
    });
    expect(await see('b')).toMatchObject({ state: 'draining', holds_place: true });
    expect((await outbox()).map(({ kind }) => kind).toSorted()).toEqual(['drain', 'drain', 'uncordon']);
  });

  test('a drain that the control plane gives up gives its place back, and so does a host that never went down', async () => {
    const { m, ask, empty, see } = await setUp([{ name: 'a' }]);
    await ask('a');
    const counts = { total_vms: 1, migrated_vms: 0, completed: false };
    const told = await takeDrainProgress(m, { node_id: 'a', epoch: 1, ...counts, error: 'no room' }, 'control-plane');
    expect(told).toMatchObject({ state: 'failed', holds_place: false, error_message: 'no room' });
    const { maintenance_id } = await ask('a');
    await empty('a', 2);
    const step = {
      node_id: 'a',
      maintenance_id: String(maintenance_id),
      fencing_token: 2,
      state: 'rebooting' as const,
    };
    await proceed(m, step, 'node a');
    await completeMaintenance(m, { node_id: 'a', success: false, untouched: true, error: 'still up' }, 'node a');
    expect(await see('a')).toMatchObject({ state: 'failed', holds_place: false });
  });

  test('a host that was granted its turn and then died does not keep its place for ever', async () => {
    const { ask, empty, tick, see, time } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await ask('b');
    await empty('a', 1);
    time.nowMs += GRANT_TTL_MS + 1;
    await tick();
    expect(await see('a')).toMatchObject({
      state: 'cancelled',
      holds_place: false,
      message: expect.stringContaining('not heard of'),
    });
    expect(await see('b')).toMatchObject({ state: 'draining' });
  });

  test('what lapsed or waits is seen to without anybody asking', async () => {
    const { store, ask, empty, tick, see, time } = await setUp([{ name: 'a' }, { name: 'b' }]);
    await ask('a');
    await ask('b');
    await empty('a', 1);
    time.nowMs += GRANT_TTL_MS + 1;
    const { id } = await findNode(store.db, 'a');
    await heardOf(store, holderOf(id), time.nowMs - 1000);
    await tick();
    expect(await see('a')).toMatchObject({ state: 'draining', fencing_token: 2 });
    await setBudget(store, 'group:*', { hosts: 2 });
    await tick();
    expect(await see('b')).toMatchObject({ state: 'draining' });
  });

  describe('capacity', () => {
    const hosts = (count: number, more: (index: number) => Partial<NewNode> = () => ({})) =>
      Array.from({ length: count }, (_, index) => ({ name: `h${String(index).padStart(2, '0')}`, ...more(index) }));
    const away = async (m: Maintenance) =>
      (await listMaintenance(m)).filter(({ holds_place }) => holds_place).map(({ node_id }) => node_id);

    test.each([
      [{ hosts: 3 }, 3],
      [{ percent: 25 }, 3],
      [{ percent: 1 }, 1],
      [{ percent: 100 }, 10],
      [{ hosts: 2, percent: 50 }, 2],
      [{ hosts: 0 }, 0],
      [{ percent: 0 }, 0],
    ])('of ten hosts under %j, %i may be away at once', async (max, expected) => {
      const { store, m, ask } = await setUp(hosts(10));
      await setBudget(store, 'group:default', max);
      for (const { name } of hosts(10)) await ask(name);
      expect(await away(m)).toHaveLength(expected);
    });

    test('one of a pair at a time, whatever the group allows, and the first who fits comes next', async () => {
      const { store, m, ask } = await setUp(hosts(4, (i) => ({ labels: { 'ha-pair': i < 2 ? 'p' : 'q' } })));
      await setBudget(store, 'group:default', { hosts: 4 });
      for (const { name } of hosts(4)) await ask(name);
      expect(await away(m)).toEqual(['h00', 'h02']);
    });

    test('a rack is limited where somebody said so, across groups', async () => {
      const { store, m, ask } = await setUp(
        hosts(4, (i) => ({ group: i % 2 ? 'blue' : 'green', labels: { rack: 'r1' } })),
      );
      for (const group of ['group:blue', 'group:green']) await setBudget(store, group, { hosts: 4 });
      await setBudget(store, 'rack', { hosts: 2 });
      for (const { name } of hosts(4)) await ask(name);
      expect(await away(m)).toEqual(['h00', 'h01']);
    });

    test('the host that carries the vDC goes last, and then alone', async () => {
      const { store, m, ask, empty, step, complete } = await setUp(
        hosts(3, (i) => (i === 0 ? { labels: { vdc: 'true' } } : {})),
      );
      await setBudget(store, 'group:default', { hosts: 2 });
      for (const name of ['h01', 'h00', 'h02']) await ask(name);
      expect(await away(m)).toEqual(['h01', 'h02']);
      expect((await maintenanceOf(m, 'h00')).message).toContain('at most 2');
      for (const name of ['h01', 'h02']) {
        expect((await maintenanceOf(m, 'h00')).state).toBe('requested');
        await empty(name, 1);
        await step(name, 'rebooting');
        await complete(name);
      }
      expect(await away(m)).toEqual(['h00']);
    });

    test('those who waited longest go first', async () => {
      const { m, ask, cancel, time } = await setUp(hosts(4));
      for (const name of ['h03', 'h01', 'h02', 'h00']) {
        await ask(name);
        time.nowMs += 1000;
      }
      for (const name of ['h03', 'h01', 'h02']) {
        expect(await away(m)).toEqual([name]);
        await cancel(name);
      }
      expect(await away(m)).toEqual(['h00']);
    });
  });
});
