import { stat } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { firstBroken, record } from '../../src/server/audit.ts';
import { locked, prepareStore } from '../../src/server/store.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

onBothEngines('the state of a server', (freshUrl) => {
  const node = (id: string, name: string) => ({
    id,
    name,
    state: 'enrolled' as const,
    fleet_group: 'default',
    labels: '{}',
    carries_vms: 1,
    epoch: 0,
    spki: 'AAAA',
    created_ms: 1_790_000_000_000,
    told_pins: null,
  });

  test('is there again, whole, after it was opened a second time', async () => {
    const url = await freshUrl();
    const first = await openStore(url);
    await first.change((change) => change.insertInto('node').values(node('a', 'qhci-01')).execute());
    const second = first.engine === 'postgres' ? await openStore(url) : first;
    await prepareStore(second);
    expect(await second.db.selectFrom('node').selectAll().execute()).toEqual([node('a', 'qhci-01')]);
  });

  test('a change that fails leaves nothing', async () => {
    const { change, db } = await openStore(await freshUrl());
    const failed = change(async (within) => {
      await within.insertInto('node').values(node('a', 'qhci-01')).execute();
      throw new Error('in the middle');
    });
    await expect(failed).rejects.toThrow('in the middle');
    expect(await db.selectFrom('node').selectAll().execute()).toEqual([]);
  });

  test('two hosts cannot have one name, unless one of them was revoked', async () => {
    const { change } = await openStore(await freshUrl());
    const insert = (row: object) =>
      change((within) =>
        within
          .insertInto('node')
          .values({ ...node('', 'qhci-01'), ...row })
          .execute(),
      );
    await insert({ id: 'a', state: 'revoked' });
    await insert({ id: 'b' });
    await expect(insert({ id: 'c' })).rejects.toThrow(/unique/i);
  });

  test('two changes that read a row under lock and write it are as one after the other', async () => {
    const store = await openStore(await freshUrl());
    await store.change((change) => change.insertInto('node').values(node('a', 'qhci-01')).execute());
    const grow = () =>
      store.change(async (change) => {
        const row = await locked(store, change.selectFrom('node').select('epoch').where('id', '=', 'a'));
        const { epoch } = await row.executeTakeFirstOrThrow();
        await change
          .updateTable('node')
          .set({ epoch: epoch + 1 })
          .where('id', '=', 'a')
          .execute();
      });
    await Promise.all(Array.from({ length: 20 }, grow));
    expect(await store.db.selectFrom('node').select('epoch').executeTakeFirst()).toEqual({ epoch: 20 });
  });

  test('the audit trail of a host holds, until a row of it is changed or taken out', async () => {
    const { change, db } = await openStore(await freshUrl());
    const event = (name: string) => ({ subject: 'node:a', actor: 'admin alice', event: name, atMs: 1_790_000_000_000 });
    for (const name of ['node_enrolled', 'maintenance_requested', 'maintenance_granted']) {
      await change((within) => record(within, { ...event(name), fields: { version: '1.0.0' } }));
    }
    await change((within) => record(within, { ...event('node_enrolled'), subject: 'node:b' }));
    expect(await firstBroken(db, 'node:a')).toBeNull();

    await db.updateTable('audit').set({ entry: '{}' }).where('sequence', '=', 2).execute();
    expect(await firstBroken(db, 'node:a')).toBe(2);
    await db.deleteFrom('audit').where('sequence', '=', 2).execute();
    expect(await firstBroken(db, 'node:a')).toBe(2);
    expect(await firstBroken(db, 'node:b')).toBeNull();
  });

  test('what was made by a newer server is not touched', async () => {
    const store = await openStore(await freshUrl());
    await store.db
      .insertInto('schema_migration' as never)
      .values({ name: '9999_later', timestamp: '2030-01-01' } as never)
      .execute();
    await expect(prepareStore(store)).rejects.toMatchObject({ code: 'STATE_TOO_NEW' });
  });
});

test('what SQLite keeps is for its owner alone', async () => {
  const { openDatabase } = await import('../../src/system/database.ts');
  const { temporaryFolder } = await import('../support/temp.ts');
  const folder = await temporaryFolder();
  const database = await openDatabase<object>(`sqlite:${folder}/state/fleet.db`);
  await prepareStore(database as never);
  expect((await stat(`${folder}/state`)).mode & 0o077).toBe(0);
  expect((await stat(`${folder}/state/fleet.db`)).mode & 0o077).toBe(0);
  expect((await stat(`${folder}/state/fleet.db-wal`)).mode & 0o077).toBe(0);
  await database.close();
});
