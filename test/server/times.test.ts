import { expect, test } from 'vitest';
import { claimDue } from '../../src/server/control-plane/outbox.ts';
import { holderOf } from '../../src/server/maintenance/grants.ts';
import { maintenanceOf } from '../../src/server/maintenance/host.ts';
import { dueNow } from '../../src/server/maintenance/schedule.ts';
import { requestMaintenance, takeDrainProgress } from '../../src/server/maintenance.ts';
import { findNode } from '../../src/server/nodes/rows.ts';
import { heardOf } from '../../src/server/places.ts';
import { mendTimes } from '../../src/server/times.ts';
import { recordedLog } from '../support/fakes.ts';
import { enrol, fleetClock, GRANT_TTL_MS, serverOn, setBudget } from '../support/fleet-state.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

/** The clock of a server was 20 days ahead, and is put right: nothing that began meanwhile lasts 20 days. */

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

onBothEngines('a clock that was put right', (freshUrl) => {
  async function setUp() {
    const store = await openStore(await freshUrl());
    await enrol(store, { name: 'a' }, { name: 'b' }, { name: 'c' });
    const time = fleetClock();
    const rightMs = time.nowMs;
    const m = serverOn(store, time);
    const log = recordedLog();
    time.nowMs = rightMs + 20 * DAY_MS;
    return {
      store,
      time,
      log,
      m,
      putRight: () => void Object.assign(time, { nowMs: rightMs }),
      tick: () => dueNow({ maintenance: m, drainTimeoutMs: HOUR_MS, log }),
      see: (name: string) => maintenanceOf(m, name),
      ask: (name: string) =>
        requestMaintenance(m, { node_id: name, target_version: '2.0.0', update_type: 'full' }, `node ${name}`),
    };
  }

  test('leaves no drain and no grant that is longer than it was to be, and nobody the last for weeks', async () => {
    const { store, time, m, log, putRight, tick, see, ask } = await setUp();
    await setBudget(store, 'group:*', { hosts: 2 });
    await ask('a');
    await ask('b');
    await ask('c');
    await takeDrainProgress(
      m,
      { node_id: 'b', epoch: 1, total_vms: 0, migrated_vms: 0, completed: true },
      'control-plane',
    );
    await heardOf(store, holderOf((await findNode(store.db, 'b')).id), time.nowMs);
    putRight();
    await tick();
    const { requested_at } = await see('c');
    expect(Date.parse(requested_at ?? '')).toBe(time.nowMs);
    expect(Date.parse((await see('b')).expires_at ?? '')).toBe(time.nowMs + GRANT_TTL_MS);
    expect(await store.db.selectFrom('place').selectAll().where('granted_ms', '>', time.nowMs).execute()).toEqual([]);
    expect(log.lines.map(({ event }) => event)).toContain('times_put_right');
    expect(await mendTimes({ store, log }, time.nowMs)).toBe(0);
    time.nowMs += HOUR_MS + 1;
    await tick();
    // The drain has ended, and the grant has run out.
    expect([(await see('a')).state, (await see('b')).state, (await see('c')).state]).toEqual([
      'failed',
      'draining',
      'draining',
    ]);
  });

  test('leaves no invitation that is good for longer than it was made for', async () => {
    const { store, time, log, putRight } = await setUp();
    const invite = (id: string, created_ms: number | null, expires_ms: number) =>
      store.db
        .insertInto('node_invite')
        .values({
          ...{ id, created_ms, expires_ms, node_name: id, secret_sha256: '', fleet_group: 'default', labels: '{}' },
          ...{ carries_vms: 1, needs_approval: 0, node_id: null },
        })
        .execute();
    await invite('fresh', time.nowMs, time.nowMs + HOUR_MS);
    // Made by a server that did not keep when.
    await invite('older', null, time.nowMs + HOUR_MS);
    putRight();
    await invite('right', time.nowMs, time.nowMs + HOUR_MS);
    await mendTimes({ store, log }, time.nowMs);
    const rows = await store.db.selectFrom('node_invite').select(['id', 'expires_ms']).orderBy('id').execute();
    expect(rows.map(({ id, expires_ms }) => [id, (expires_ms - time.nowMs) / HOUR_MS])).toEqual([
      ['fresh', 1],
      ['older', 7 * 24],
      ['right', 1],
    ]);
  });

  test('leaves no order to the control plane that waits for weeks', async () => {
    const { store, time, log, ask, putRight } = await setUp();
    await ask('a');
    // Taken by a server that died with it.
    expect(await claimDue(store, time.nowMs)).toHaveLength(1);
    putRight();
    expect(await claimDue(store, time.nowMs)).toEqual([]);
    await mendTimes({ store, log }, time.nowMs);
    expect(await claimDue(store, time.nowMs)).toHaveLength(1);
  });
});
