import { sql } from 'kysely';
import { expect, onTestFinished, test } from 'vitest';
import { openDatabase } from '../../src/system/database.ts';
import { POSTGRES, postgres } from '../support/postgres.ts';
import { requires } from '../support/requires.ts';

requires(POSTGRES)('a PostgreSQL that goes away and comes back', () => {
  const freshUrl = postgres();

  test('is said to be out of reach, whatever was asked of it, and is used again afterwards', async () => {
    const database = await openDatabase<object>(await freshUrl());
    onTestFinished(() => database.close());
    const { db, change } = database;
    const one = sql<{ n: number }>`select 1 as n`;
    const slow = sql`select pg_sleep(20)`;
    expect((await one.execute(db)).rows).toEqual([{ n: 1 }]);

    const underWay = [slow.execute(db), change((within) => slow.execute(within))];
    const ended = Promise.allSettled(underWay);
    await expect.poll(async () => (await one.execute(db)).rows.length).toBe(1);
    await freshUrl.stop();
    const lost = { status: 'rejected', reason: expect.objectContaining({ code: 'STATE_UNREACHABLE' }) };
    expect(await ended).toEqual([lost, lost]);
    const attempts = [() => one.execute(db), () => change((within) => one.execute(within))];
    for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject({ code: 'STATE_UNREACHABLE' });

    await freshUrl.start();
    expect((await one.execute(db)).rows).toEqual([{ n: 1 }]);
    expect((await change((within) => one.execute(within))).rows).toEqual([{ n: 1 }]);
  });

  test('a mistake in what was asked stays what it is', async () => {
    const { db, close } = await openDatabase<object>(await freshUrl());
    onTestFinished(close);
    await expect(sql`select nothing from nowhere`.execute(db)).rejects.toMatchObject({ code: '42P01' });
  });
});

test('an address that is none is refused without repeating what may hold a password', async () => {
  for (const url of ['mysql://root:secret@db/x', 'sqlite:relative.db', 'secret']) {
    const refused = await openDatabase(url).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'CONFIG_INVALID' });
    expect(String(refused)).not.toContain('secret');
  }
});
