import { Migrator } from 'kysely/migration';
import { expect, onTestFinished, test } from 'vitest';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { FLEETLOCK_ROUTES } from '../../src/format/fleetlock.ts';
import { MAINTENANCE_ROUTES as R } from '../../src/format/maintenance-routes.ts';
import { PLACE_ROUTES } from '../../src/format/place-routes.ts';
import { migrationsFor } from '../../src/server/store/migrations.ts';
import { prepareStore, type Tables } from '../../src/server/store.ts';
import { openDatabase } from '../../src/system/database.ts';
import { enrolled, type FleetBench, fleetBench, HOST, invited, operatorToken, trailOf } from '../support/fleet.ts';
import { hostKey } from '../support/node-keys.ts';
import { onBothEngines } from '../support/stores.ts';

/** A machine that is dead gives nothing back. What it holds is listed, and given back by a person, who says why. */

const reboot = (bench: FleetBench, token: string, id: string, group = 'default', route = FLEETLOCK_ROUTES.preReboot) =>
  bench.call({ token, headers: { 'fleet-lock-protocol': 'true' } }, route, {
    body: { client_params: { id, group } },
  });

onBothEngines('places', (freshUrl) => {
  async function setUp() {
    const bench = await fleetBench({ url: await freshUrl() });
    return {
      bench,
      locks: await operatorToken(bench, 'locks', 'operator'),
      places: async () => (await bench.root(PLACE_ROUTES.places)).json.places as Record<string, unknown>[],
      release: (holder: string, reason = 'its disk is dead') =>
        bench.root(PLACE_ROUTES.releasePlace, { body: { holder, reason } }),
    };
  }

  test('that a dead host of another system holds is listed with who asked, and when it was last heard of', async () => {
    const { bench, locks, places, release } = await setUp();
    await reboot(bench, locks, 'm1');
    expect(await places()).toMatchObject([
      {
        holder: 'fleetlock:default/m1',
        kind: 'fleetlock',
        group: 'default',
        last_heard: null,
        asked_by: 'operator locks',
      },
    ]);
    await reboot(bench, locks, 'm1');
    expect(await places()).toMatchObject([{ last_heard: expect.stringMatching(/Z$/) }]);
    expect((await reboot(bench, locks, 'm2')).status).toBe(409);
    expect(await release('fleetlock:default/m1')).toMatchObject({ status: 200 });
    expect((await reboot(bench, locks, 'm2')).status).toBe(200);
    expect(await trailOf(bench, 'fleetlock:default/m1')).toEqual([
      'place_taken by operator locks',
      'place_released by root on the socket',
    ]);
    expect(await release('fleetlock:default/m1')).toMatchObject({
      status: 404,
      json: { code: 'NOT_FOUND', next: expect.stringContaining('qx-fleet place list') },
    });
  });

  test('that a host holds which died in its reboot is free for the next, which begins at once', async () => {
    const { bench, places, release } = await setUp();
    const [dead, next] = [await enrolled(bench, 'qhci-01'), await enrolled(bench, 'qhci-02')];
    const ask = (host: typeof dead) =>
      bench.call({ certificate: host.certificate }, R.requestMaintenance, {
        body: { node_id: host.name, target_version: '2.0.0', update_type: 'full' },
      });
    const { maintenance_id, fencing_token } = (await ask(dead)).json;
    await ask(next);
    await bench.root(R.forceMaintenance, { params: { nodeId: 'qhci-01' }, body: { reason: 'a test' } });
    const step = { node_id: 'qhci-01', maintenance_id, fencing_token, state: 'rebooting' };
    await bench.call({ certificate: dead.certificate }, R.proceed, { body: step });
    expect(await places()).toMatchObject([
      { holder: 'qhci-01', kind: 'host', state: 'rebooting', last_heard: expect.stringMatching(/Z$/) },
    ]);
    // Nothing else gives it back, other than putting the host out of the fleet.
    expect((await bench.root(R.cancelMaintenance, { params: { nodeId: 'qhci-01' } })).json.code).toBe('CANCEL_UNSAFE');
    expect(await release('qhci-01')).toMatchObject({ status: 200 });
    expect(await places()).toMatchObject([{ holder: 'qhci-02', state: 'draining' }]);
    expect((await trailOf(bench, `node:${dead.id}`)).slice(-2)).toEqual([
      'maintenance_failed by root on the socket',
      'place_released by root on the socket',
    ]);
    // Back after all, it is heard, and disturbs nobody.
    const done = { node_id: 'qhci-01', success: true, version: '2.0.0', maintenance_id };
    const late = await bench.call({ certificate: dead.certificate }, R.completeMaintenance, { body: done });
    expect(late.json).toMatchObject({ state: 'failed', holds_place: false });
  });

  test('are given back by an admin only, and not without a reason', async () => {
    const { bench, locks, release } = await setUp();
    await reboot(bench, locks, 'm1');
    const asOperator = await bench.call({ token: locks }, PLACE_ROUTES.releasePlace, {
      body: { holder: 'fleetlock:default/m1', reason: 'because' },
    });
    expect(asOperator.json.code).toBe('ROLE_MISSING');
    expect((await release('fleetlock:default/m1', '')).json.code).toBe('BAD_REQUEST');
  });

  test('of ids and groups that differ in nothing but case are one place', async () => {
    const { bench, locks, places } = await setUp();
    expect((await reboot(bench, locks, 'ABCDEF01')).status).toBe(200);
    expect((await reboot(bench, locks, 'abcdef01', 'Default')).status).toBe(200);
    expect(await places()).toMatchObject([{ holder: 'fleetlock:default/abcdef01', domains: ['group:default'] }]);
    expect((await reboot(bench, locks, 'other', 'DEFAULT')).status).toBe(409);
    await reboot(bench, locks, 'AbCdEf01', 'default', FLEETLOCK_ROUTES.steadyState as never);
    expect(await places()).toEqual([]);
  });

  test('that were taken in another case, before that was known, are one place as well, and the first keeps it', async () => {
    const store = await openDatabase<Tables>(await freshUrl());
    onTestFinished(() => store.close());
    const before = Object.fromEntries(Object.entries(migrationsFor(store.engine)).filter(([name]) => name < '0006'));
    const names = { migrationTableName: 'schema_migration', migrationLockTableName: 'schema_migration_lock' };
    const provider = { getMigrations: async () => before };
    await new Migrator({ db: store.db, provider, ...names }).migrateToLatest();
    const take = async (holder: string, domain: string, granted_ms: number) => {
      await store.db.insertInto('place').values({ holder, granted_ms, heard_ms: null }).execute();
      await store.db.insertInto('place_domain').values({ holder, domain }).execute();
    };
    await take('fleetlock:default/AB', 'group:default', 2000);
    await take('fleetlock:default/ab', 'group:default', 1000);
    await take('fleetlock:Edge/CD', 'group:Edge', 3000);
    await take('fleetlock:edge/cd', 'group:edge', 4000);
    await take('node:1', 'group:default', 5000);
    await prepareStore(store);
    expect(await store.db.selectFrom('place').select(['holder', 'granted_ms']).orderBy('granted_ms').execute()).toEqual(
      [
        { holder: 'fleetlock:default/ab', granted_ms: 1000 },
        { holder: 'fleetlock:edge/cd', granted_ms: 3000 },
        { holder: 'node:1', granted_ms: 5000 },
      ],
    );
    const domains = await store.db.selectFrom('place_domain').selectAll().orderBy('holder').execute();
    expect(domains.map(({ domain }) => domain)).toEqual(['group:default', 'group:edge', 'group:default']);
  });
});

onBothEngines('invitations', (freshUrl) => {
  test('that nobody has used are listed with who made them, and taken back with a reason', async () => {
    const bench = await fleetBench({ url: await freshUrl() });
    const token = await operatorToken(bench, 'alice', 'operator');
    const made = await bench.call({ token }, NODE_ROUTES.inviteNode, { body: { name: 'qhci-01', host: HOST } });
    const list = async () => (await bench.root(NODE_ROUTES.invites)).json as unknown as Record<string, unknown>[];
    expect(await list()).toMatchObject([{ node_id: 'qhci-01', invited_by: 'operator alice' }]);
    expect(JSON.stringify(await list())).not.toContain(String(made.json.join).split('.')[2]);
    const invite = String(made.json.invite_id);
    const withdraw = () =>
      bench.call({ token }, NODE_ROUTES.withdrawInvite, {
        params: { invite },
        body: { reason: 'sent to the wrong list' },
      });
    expect(await withdraw()).toMatchObject({ status: 200, json: { status: 'withdrawn', node_id: 'qhci-01' } });
    expect(await list()).toEqual([]);
    const body = hostKey().enrolBy(String(made.json.join));
    expect((await bench.call({}, NODE_ROUTES.enroll, { body })).json.code).toBe('INVITE_REFUSED');
    expect(await trailOf(bench, `invite:${invite}`)).toEqual([
      'node_invited by operator alice',
      'invite_withdrawn by operator alice',
    ]);
  });

  test('that were used are no longer open, and cannot be taken back', async () => {
    const bench = await fleetBench({ url: await freshUrl() });
    const join = await invited(bench, 'qhci-01');
    await bench.call({}, NODE_ROUTES.enroll, { body: hostKey().enrolBy(join) });
    expect((await bench.root(NODE_ROUTES.invites)).json).toEqual([]);
    const params = { invite: join.split('.')[1] ?? '' };
    const body = { reason: 'too late' };
    expect((await bench.root(NODE_ROUTES.withdrawInvite, { params, body })).json.code).toBe('NAME_TAKEN');
  });
});
