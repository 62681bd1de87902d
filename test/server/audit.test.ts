import { expect, test } from 'vitest';
import { AUDIT_ROUTES, type ServerAuditEvent } from '../../src/format/audit-routes.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { runSealing, sealDue } from '../../src/server/audit/seals.ts';
import { verifyAudit } from '../../src/server/audit/verify.ts';
import { hashOf as chained, record } from '../../src/server/audit.ts';
import type { Store } from '../../src/server/store.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { enrolled, fleetBench } from '../support/fleet.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

onBothEngines('the audit trail', (freshUrl) => {
  async function setUp() {
    const store = await openStore(await freshUrl());
    const time = { nowMs: Date.parse('2026-11-10T12:00:00.123Z') };
    const sealer = { store, clock: { ...fakeClock(), nowMs: () => time.nowMs }, log: recordedLog() };
    const note = (subject: string, event: string) =>
      store.change((change) => record(change, { subject, actor: 'admin alice', event, atMs: time.nowMs }));
    const seal = async () => {
      time.nowMs += 60_000;
      return sealDue(sealer);
    };
    return { store, time, sealer, note, seal };
  }

  /** Three hosts with three events each, of which the last ones are sealed by a second seal, and one event that is not. */
  async function sealedTwice() {
    const bench = await setUp();
    const { note, seal } = bench;
    for (const subject of ['node:a', 'node:b', 'node:c'])
      for (const event of ['one', 'two']) await note(subject, event);
    expect(await seal()).toBe(3);
    for (const subject of ['node:a', 'node:b']) await note(subject, 'three');
    expect(await seal()).toBe(2);
    await note('node:c', 'three');
    expect(await verifyAudit(bench.store.db)).toMatchObject({
      ok: true,
      events: 9,
      subjects: 3,
      seals: 2,
      unsealed: 1,
    });
    return bench;
  }

  const faultsOf = async ({ db }: Store) =>
    (await verifyAudit(db)).faults.map(({ where, subject, sequence }) => `${where} ${subject} ${sequence}`);
  const event = (store: Store, subject: string, sequence: number) => ({
    edit: (set: object) =>
      store.db.updateTable('audit').set(set).where('subject', '=', subject).where('sequence', '=', sequence).execute(),
    remove: () =>
      store.db.deleteFrom('audit').where('subject', '=', subject).where('sequence', '=', sequence).execute(),
  });
  const moveHead = (store: Store, subject: string, sequence: number, hash: string) =>
    store.db.updateTable('audit_head').set({ sequence, hash }).where('subject', '=', subject).execute();
  const hashOf = async (store: Store, subject: string, sequence: number): Promise<string> =>
    (
      await store.db
        .selectFrom('audit')
        .select('hash')
        .where('subject', '=', subject)
        .where('sequence', '=', sequence)
        .executeTakeFirstOrThrow()
    ).hash;

  test('is sealed once a minute, and not when nothing happened', async () => {
    const { store, time, sealer, note, seal } = await setUp();
    expect(await seal()).toBe(0);
    expect(await verifyAudit(store.db)).toMatchObject({ ok: true, seals: 0, last_seal: null });
    await note('node:a', 'one');
    expect(await seal()).toBe(1);
    await note('node:a', 'two');
    expect(await sealDue(sealer)).toBe(0);
    time.nowMs += 59_000;
    expect(await sealDue(sealer)).toBe(0);
    time.nowMs += 1000;
    expect(await sealDue(sealer)).toBe(1);
    expect(await seal()).toBe(0);
    const { seals, last_seal } = await verifyAudit(store.db);
    expect([seals, last_seal?.sequence, last_seal?.at]).toEqual([2, 2, '2026-11-10T12:03:00Z']);
    expect(sealer.log.lines.filter((line) => JSON.stringify(line).includes('audit_sealed'))).toHaveLength(2);
  });

  test('is sealed while the server runs, and a round that fails is made good by the next one', async () => {
    const { store, sealer, note } = await setUp();
    await note('node:a', 'one');
    const stop = new AbortController();
    const rounds = { count: 0 };
    const sleep = async () => {
      rounds.count += 1;
      if (rounds.count > 2) stop.abort();
    };
    const change: Store['change'] = (work) =>
      rounds.count === 1 ? Promise.reject(new Error('the database is away')) : store.change(work);
    await runSealing({ ...sealer, store: { ...store, change }, clock: { ...sealer.clock, sleep } }, stop.signal);
    expect(await verifyAudit(store.db)).toMatchObject({ seals: 1, unsealed: 0 });
    expect(JSON.stringify(sealer.log.lines)).toContain('the database is away');
  });

  test('is sealed after a clock that was ahead by years was set right', async () => {
    const { time, note, seal, sealer } = await setUp();
    const nowMs = time.nowMs;
    time.nowMs += 5 * 365 * 86_400_000;
    await note('node:a', 'one');
    await seal();
    time.nowMs = nowMs;
    await note('node:a', 'two');
    expect(await sealDue(sealer)).toBe(1);
  });

  test('is sealed by one of several servers, and each chain once, while they go on', async () => {
    const { store, time, sealer, note } = await setUp();
    const other = await openStore(store.url);
    for (let round = 0; round < 10; round++) {
      time.nowMs += 60_000;
      await Promise.all([
        sealDue(sealer),
        sealDue({ ...sealer, store: store.engine === 'postgres' ? other : store }),
        ...['node:a', 'node:b', 'node:c'].map((subject) => note(subject, `round_${round}`)),
      ]);
    }
    time.nowMs += 60_000;
    await sealDue(sealer);
    const seals = await store.db.selectFrom('audit_seal').select('entry').execute();
    const named = seals.flatMap(({ entry }) => JSON.parse(entry).heads.map(([s, n]: [string, number]) => `${s} ${n}`));
    expect(new Set(named).size).toBe(named.length);
    expect(await verifyAudit(store.db)).toMatchObject({ ok: true, events: 30, subjects: 3, unsealed: 0 });
  });

  test('of more chains than one seal takes is sealed by several, and read in pages', async () => {
    const { store, seal, time } = await setUp();
    await store.change(async (change) => {
      for (let i = 0; i < 1200; i++) {
        await record(change, { subject: `invite:${i}`, actor: 'admin alice', event: 'made', atMs: time.nowMs });
      }
    });
    expect(await seal()).toBe(1200);
    const whole = { ok: true, events: 1200, subjects: 1200, seals: 2, unsealed: 0 };
    expect(await verifyAudit(store.db)).toMatchObject(whole);
    await event(store, 'invite:700', 1).remove();
    expect(await faultsOf(store)).toEqual(['chain invite:700 1', 'chain invite:700 1']);
  });

  test.each([
    ['what it says', { entry: '{"subject":"node:a","sequence":2}' }],
    ['who did it, beside what was hashed', { actor: 'admin bob' }],
    ['when, beside what was hashed', { at_ms: 1 }],
  ])('tells that an event was edited: %s', async (_what, set) => {
    const { store } = await sealedTwice();
    await event(store, 'node:a', 2).edit(set);
    expect(await faultsOf(store)).toContain('chain node:a 2');
  });

  test('tells of what is no event and no seal at all, although its hash fits', async () => {
    const { store } = await sealedTwice();
    const before = await hashOf(store, 'node:c', 2);
    await event(store, 'node:c', 3).edit({ entry: '}{', hash: chained(before, '}{') });
    await moveHead(store, 'node:c', 3, chained(before, '}{'));
    expect(await faultsOf(store)).toEqual(['chain node:c 3']);
    const { hash } = await store.db
      .selectFrom('audit_seal')
      .select('hash')
      .where('sequence', '=', 1)
      .executeTakeFirstOrThrow();
    for (const entry of ['null', '[]', '{"sequence":2,"at":"2026-11-10T12:02:00.123Z","heads":7}']) {
      const forged = { entry, hash: chained(hash, entry) };
      await store.db.updateTable('audit_seal').set(forged).where('sequence', '=', 2).execute();
      expect(await faultsOf(store)).toContain('seal null 2');
    }
  });

  test('tells that an event in the middle is gone', async () => {
    const { store } = await sealedTwice();
    await event(store, 'node:a', 2).remove();
    expect((await verifyAudit(store.db)).faults[0]).toEqual({
      where: 'chain',
      subject: 'node:a',
      sequence: 3,
      detail: 'event 2 is gone',
    });
  });

  test('tells that the last event is gone, also from where the chain ends', async () => {
    const { store } = await sealedTwice();
    await event(store, 'node:a', 3).remove();
    expect(await faultsOf(store)).toEqual(['chain node:a 3', 'chain node:a 3']);
    await moveHead(store, 'node:a', 2, await hashOf(store, 'node:a', 2));
    expect((await verifyAudit(store.db)).faults).toEqual([
      { where: 'chain', subject: 'node:a', sequence: 3, detail: 'event 3 is gone, and seal 2 names it' },
    ]);
  });

  test('tells that the last event is another one, in a chain that fits', async () => {
    const { store, note } = await sealedTwice();
    await event(store, 'node:a', 3).remove();
    await moveHead(store, 'node:a', 2, await hashOf(store, 'node:a', 2));
    await note('node:a', 'something_else');
    expect((await verifyAudit(store.db)).faults).toEqual([
      { where: 'chain', subject: 'node:a', sequence: 3, detail: 'event 3 is not what seal 2 names' },
    ]);
  });

  test('tells that a whole chain is gone, also when nothing says any more that there was one', async () => {
    const { store } = await sealedTwice();
    await store.db.deleteFrom('audit').where('subject', '=', 'node:b').execute();
    expect(await faultsOf(store)).toEqual(['chain node:b 3', 'chain node:b 2']);
    await store.db.deleteFrom('audit_head').where('subject', '=', 'node:b').execute();
    expect(await faultsOf(store)).toEqual(['chain node:b 2']);
  });

  test('tells of a chain that no server has recorded', async () => {
    const { store } = await sealedTwice();
    await store.db.deleteFrom('audit_head').where('subject', '=', 'node:c').execute();
    expect(await faultsOf(store)).toEqual(['chain node:c 0']);
  });

  test('tells that a seal is gone: the first, the last, all of them; or was edited', async () => {
    const { store } = await sealedTwice();
    const kept = await store.db.selectFrom('audit_seal').selectAll().execute();
    const without = async (...sequences: readonly number[]) => {
      await store.db.deleteFrom('audit_seal').execute();
      const left = kept.filter(({ sequence }) => !sequences.includes(sequence));
      if (left.length > 0) await store.db.insertInto('audit_seal').values(left).execute();
      return faultsOf(store);
    };
    expect(await without(1)).toEqual(['seal null 2']);
    expect(await without(2)).toEqual(['seal null 1']);
    expect(await without(1, 2)).toEqual(['seal null 0']);
    expect(await without()).toEqual([]);
    await store.db.updateTable('audit_seal').set({ entry: '{"heads":[]}' }).where('sequence', '=', 1).execute();
    expect(await faultsOf(store)).toEqual(['seal null 1']);
  });

  test('takes down what happens also where its end is gone, or was set back', async () => {
    const { store, note, seal } = await sealedTwice();
    await store.db.deleteFrom('audit_head').where('subject', '=', 'node:a').execute();
    await moveHead(store, 'node:b', 1, await hashOf(store, 'node:b', 1));
    for (const subject of ['node:a', 'node:b']) for (const event of ['four', 'five']) await note(subject, event);
    expect(await faultsOf(store)).toEqual(['chain node:a 4', 'chain node:b 4']);
    await seal();
    await note('node:a', 'six');
    expect(await faultsOf(store)).toEqual(['chain node:a 4', 'chain node:b 4']);
  });

  test('that was looked into tells of later faults only, and who looked', async () => {
    const bench = await fleetBench({ url: await freshUrl() });
    const { id } = await enrolled(bench, 'a');
    await enrolled(bench, 'b');
    const accept = (reason = 'restored on Monday') => bench.root(AUDIT_ROUTES.acceptAudit, { body: { reason } });
    expect(await accept()).toMatchObject({ status: 404, json: { next: 'qx-fleet audit verify' } });
    await event(bench.store, `node:${id}`, 1).edit({ actor: 'nobody' });
    expect(await verifyAudit(bench.store.db)).toMatchObject({ ok: false, accepted: 0 });
    expect((await accept()).json.faults).toMatchObject([{ where: 'chain', subject: `node:${id}`, sequence: 1 }]);
    expect(await verifyAudit(bench.store.db)).toMatchObject({ ok: true, accepted: 1, faults: [] });
    await event(bench.store, `node:${id}`, 1).remove();
    expect(await verifyAudit(bench.store.db)).toMatchObject({ ok: false, accepted: 0 });
    const noted = await bench.store.db.selectFrom('audit').selectAll().where('subject', '=', 'audit').execute();
    expect(noted).toMatchObject([{ event: 'faults_accepted', actor: 'root on the socket' }]);
  });

  test('of a state that was made before there were seals is sealed too', async () => {
    const { store, note, seal } = await setUp();
    await note('node:a', 'one');
    await note('node:a', 'two');
    const since = ['audit_head', 'audit_seal', 'audit_sealer', 'node_boot', 'node_conflict'];
    for (const name of since) await store.db.schema.dropTable(name).execute();
    await store.db.schema.alterTable('maintenance').dropColumn('began_boot').execute();
    await store.db.schema.alterTable('node').dropColumn('told_pins').execute();
    await store.db.schema.dropIndex('audit_at').execute();
    await store.db.schema.alterTable('place').dropColumn('heard_ms').execute();
    await store.db.schema.alterTable('node_invite').dropColumn('created_ms').execute();
    await store.db
      .deleteFrom('schema_migration' as never)
      .where('name' as never, '>=', '0004_audit_seals' as never)
      .execute();
    const again = await openStore(store.url);
    expect(await verifyAudit(again.db)).toMatchObject({ ok: true, events: 2, unsealed: 1 });
    expect(await seal()).toBe(1);
    await note('node:a', 'three');
    expect(await verifyAudit(again.db)).toMatchObject({ ok: true, events: 3, seals: 1, unsealed: 1 });
  });

  test('is read by viewers, of one host by its name, and verified by admins', async () => {
    const fleet = await fleetBench({ url: await freshUrl() });
    const tokenOf = async (name: string, role: 'viewer' | 'operator' | 'admin') =>
      String((await fleet.root(NODE_ROUTES.addOperator, { body: { name, role } })).json.token);
    const [viewer, operator] = [await tokenOf('vera', 'viewer'), await tokenOf('otto', 'operator')];
    await enrolled(fleet, 'qhci-01');
    const ask = async (query: string, token = viewer) => fleet.raw({ token }, 'GET', `/api/v1/audit${query}`);
    const events = async (query: string) => (await ask(query)).json as unknown as ServerAuditEvent[];
    expect((await events('')).map((one) => `${one.actor}: ${one.event}`)).toEqual(
      expect.arrayContaining(['root on the socket: operator_added', 'node qhci-01: node_enrolled']),
    );
    expect(await events('?subject=qhci-01')).toMatchObject([
      { node_id: 'qhci-01', sequence: 1, event: 'node_enrolled' },
    ]);
    expect(await events('?subject=operator:vera')).toMatchObject([
      { event: 'operator_added', fields: { role: 'viewer' } },
    ]);
    expect(await events('?limit=1')).toHaveLength(1);
    for (const query of ['?limit=0', '?limit=1001', '?limit=x', '?subject=', '?subject=a%20b']) {
      expect([query, (await ask(query)).status]).toEqual([query, 400]);
    }
    expect((await ask('?subject=qhci-99')).json.code).toBe('NODE_UNKNOWN');
    expect((await ask('', 'qxo_wrong')).status).toBe(401);
    expect((await ask('/verify', operator)).json.code).toBe('ROLE_MISSING');
    expect((await fleet.root(AUDIT_ROUTES.verifyAudit)).json).toMatchObject({ ok: true, seals: 0, faults: [] });
  });
});
