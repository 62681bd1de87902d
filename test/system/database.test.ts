import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { sql } from 'kysely';
import { expect, onTestFinished, test } from 'vitest';
import { POSTGRES } from '../../scripts/support/postgres.ts';
import { openDatabase } from '../../src/system/database.ts';
import { postgres } from '../support/postgres.ts';
import { requires } from '../support/requires.ts';
import { temporaryFolder } from '../support/temp.ts';

const SOCKET = '.s.PGSQL.5432';
/** What the server says once somebody has logged in. */
const READY = Buffer.from('Z\0\0\0\x05I', 'latin1');

/** A socket that leads to the one in the folder. While it is cut, whoever has logged in is cut off at his first word. */
async function cuttableLine(folder: string): Promise<{ folder: string; cut: boolean }> {
  const line = { folder: await temporaryFolder(), cut: false };
  const server = createServer((client) => {
    const upstream = connect(join(folder, SOCKET));
    const state = { isReady: false };
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('error', () => undefined).on('close', () => to.destroy());
      from.on('data', (bytes: Buffer) => {
        if (from === client && state.isReady && line.cut) return void client.destroy();
        if (from === upstream && bytes.includes(READY)) state.isReady = true;
        to.write(bytes);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(join(line.folder, SOCKET), resolve));
  onTestFinished(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  return line;
}

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

  test('connections that end as soon as they are made use up nothing', async () => {
    const url = new URL(await freshUrl());
    const line = await cuttableLine(url.searchParams.get('host') ?? '');
    url.searchParams.set('host', line.folder);
    const { db, close } = await openDatabase<object>(url.href);
    onTestFinished(close);
    line.cut = true;
    for (let attempt = 0; attempt < 12; attempt++) {
      await expect(sql`select 1`.execute(db)).rejects.toMatchObject({ code: 'STATE_UNREACHABLE' });
    }
    line.cut = false;
    expect((await sql`select 1 as n`.execute(db)).rows).toEqual([{ n: 1 }]);
  });

  test('what is changed is on the medium, whatever the administrator of the database prefers', async () => {
    const url = await freshUrl();
    const name = new URL(url).pathname.slice(1);
    const first = await openDatabase<object>(url);
    await sql`alter database ${sql.id(name)} set synchronous_commit = off`.execute(first.db);
    await first.close();
    const { db, close } = await openDatabase<object>(url);
    onTestFinished(close);
    expect((await sql`show synchronous_commit`.execute(db)).rows).toEqual([{ synchronous_commit: 'on' }]);
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
