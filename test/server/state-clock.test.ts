import { expect, test } from 'vitest';
import { POSTGRES } from '../../scripts/support/postgres.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import type { Clock } from '../../src/ports.ts';
import { maintenanceOf } from '../../src/server/maintenance/host.ts';
import { dueNow } from '../../src/server/maintenance/schedule.ts';
import { requestMaintenance } from '../../src/server/maintenance.ts';
import { stateClock } from '../../src/server/state-clock.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { enrolled, fleetBench } from '../support/fleet.ts';
import { enrol, GRANT_TTL_MS, serverOn } from '../support/fleet-state.ts';
import { postgres } from '../support/postgres.ts';
import { requires } from '../support/requires.ts';
import { openStore } from '../support/stores.ts';

const HOUR_MS = 3_600_000;
const DRAIN_MS = HOUR_MS;

/** The clock of a machine that is wrong by so much. */
const wrongBy = (ms: number): Clock => ({ ...fakeClock(), nowMs: () => Date.now() + ms });

requires(POSTGRES)('servers of one PostgreSQL whose clocks differ', () => {
  const freshUrl = postgres();

  test.each([5 * HOUR_MS, -5 * HOUR_MS])('by %d ms end no drain and no grant of each other early', async (aheadMs) => {
    const store = await openStore(await freshUrl());
    await enrol(store, { name: 'a' }, { name: 'b', carriesVms: false, group: 'other' });
    const serverWith = async (clock: Clock) => {
      const log = recordedLog();
      const { clock: shared } = await stateClock(store, { clock, log });
      return { maintenance: serverOn(store, { nowMs: 0 }, { clock: shared }), drainTimeoutMs: DRAIN_MS, log };
    };
    const right = await serverWith(wrongBy(0));
    const wrong = await serverWith(wrongBy(aheadMs));
    for (const node_id of ['a', 'b']) {
      await requestMaintenance(right.maintenance, { node_id, target_version: '2.0.0', update_type: 'full' }, node_id);
    }
    const seen = async () =>
      Promise.all(
        ['a', 'b'].map(async (name) => {
          const { state, fencing_token, expires_at } = await maintenanceOf(right.maintenance, name);
          return { state, fencing_token, expires_at };
        }),
      );
    const before = await seen();
    expect(before).toMatchObject([{ state: 'draining' }, { state: 'ready' }]);
    await dueNow(wrong);
    await dueNow(right);
    expect(await seen()).toEqual(before);
    expect(right.log.lines).toEqual([]);
    expect(wrong.log.lines).toMatchObject([{ event: 'clock_differs', fields: { next: expect.any(String) } }]);
  });

  test('grant until the same time', async () => {
    const url = await freshUrl();
    await fleetBench({ url, databaseAheadMs: 0 });
    const ahead = await fleetBench({ url, databaseAheadMs: 0, aheadMs: 5 * HOUR_MS, newAuthority: 'a test' });
    const { certificate } = await enrolled(ahead, 'a');
    const body = { node_id: 'a', target_version: '2.0.0', update_type: 'full' };
    await ahead.call({ certificate }, MAINTENANCE_ROUTES.requestMaintenance, { body });
    const forced = { params: { nodeId: 'a' }, body: { reason: 'a test' } };
    const { json } = await ahead.root(MAINTENANCE_ROUTES.forceMaintenance, forced);
    const leftMs = Date.parse(String(json.expires_at)) - Date.now();
    expect(leftMs).toBeGreaterThan(0);
    expect(leftMs).toBeLessThanOrEqual(GRANT_TTL_MS);
  });
});

test('a clock that is put right in between changes nothing before the database is asked again', async () => {
  const machine = { nowMs: 1_000_000, monotonicMs: 0 };
  const clock = { ...fakeClock(), nowMs: () => machine.nowMs, monotonicMs: () => machine.monotonicMs };
  const shared = await stateClock({ nowMs: async () => 500_000 }, { clock, log: recordedLog() });
  machine.nowMs = 0;
  machine.monotonicMs = 4000;
  expect(shared.clock.nowMs()).toBe(504_000);
});

test('goes on by itself while its database does not answer', async () => {
  const answers = { fails: false, asked: 0 };
  const stop = new AbortController();
  const askMs = async () => {
    answers.asked += 1;
    if (answers.asked > 2) stop.abort();
    if (answers.fails) throw new Error('gone');
    return 500_000;
  };
  const clock = { ...fakeClock(), nowMs: () => 500_000, monotonicMs: () => 0 };
  const shared = await stateClock({ nowMs: askMs }, { clock, log: recordedLog() });
  answers.fails = true;
  await shared.run(stop.signal);
  expect(shared.clock.nowMs()).toBe(500_000);
});
