import { createServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { Pool } from 'undici';
import type { Database } from '../../src/ports/database.ts';
import { prepareStore, type Store, type Tables } from '../../src/server/store.ts';
import { openDatabase } from '../../src/system/database.ts';
import { startUpdateServer, type UpdateServer } from './update-server.ts';
import { freeHost, seedWaiting, type WaitingHosts } from './waiting-hosts.ts';

/** Update servers on one state, and hosts that take turns to be away. */

export interface GrantingFleet extends AsyncDisposable {
  /** So many hosts give their places back, and as many others get them. Answers how long each call took, in ms. */
  takeTurns(count: number): Promise<readonly number[]>;
  /** The least that a decision costs on this state: one row is written and changed, and is on the medium. */
  bareTransactions(count: number): Promise<void>;
}

interface FleetRequest {
  /** An existing folder. */
  readonly folder: string;
  /** Of an empty state. */
  readonly stateUrl: string;
  readonly servers: number;
  readonly hosts: WaitingHosts;
}

const FILLED_WITHIN_MS = 30_000;

export async function openGrantingFleet({ folder, stateUrl, servers, hosts }: FleetRequest): Promise<GrantingFleet> {
  await using opened = new AsyncDisposableStack();
  const store: Store = opened.adopt(await openDatabase<Tables>(stateUrl), (database) => database.close());
  const yardstick: Database<Yardstick> = opened.adopt(await openDatabase(stateUrl), (database) => database.close());
  await prepareStore(store);
  await sql`create table yardstick (id text primary key, value integer not null)`.execute(yardstick.db);
  await seedWaiting(store, hosts);
  // As PostgreSQL does it by itself within a minute, which nobody waits for here.
  if (store.engine === 'postgres') await sql`vacuum analyze`.execute(store.db);
  const plane = opened.use(await acceptingControlPlane());
  const running: UpdateServer[] = [];
  for (let i = 0; i < servers; i++) {
    const environment = { STATE_DATABASE_URL: stateUrl, ...plane.environment };
    running.push(opened.use(await startUpdateServer(join(folder, `server-${i}/releases`), environment)));
  }
  const pools = running.map(({ url }) => opened.adopt(new Pool(url), (pool) => pool.close()));
  const expectFull = (): Promise<void> => untilFull(store, hosts.atOnce + 1);
  await expectFull();
  const next = { host: 0, transaction: 0 };
  const kept = opened.move();
  return {
    // Places are given out in the order in which they were asked for, so who holds one is known without looking.
    takeTurns: async (count) => {
      const end = next.host + count;
      const latencies: number[] = [];
      const worker = async (_: unknown, i: number): Promise<void> => {
        while (next.host < end) latencies.push(await giveBack(pools[i % pools.length] as Pool, freeHost(next.host++)));
      };
      await Promise.all(Array.from({ length: hosts.atOnce }, worker));
      await expectFull();
      return latencies;
    },
    bareTransactions: async (count) => {
      for (let i = 0; i < count; i++) await bareTransaction(yardstick, `row-${next.transaction++}`);
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

async function giveBack(pool: Pool, host: string): Promise<number> {
  const startMs = performance.now();
  const headers = { 'x-qx-dev-node': host };
  const path = `/api/v1/maintenance/cancel/${host}`;
  const { statusCode, body } = await pool.request({ method: 'POST', path, headers });
  const told = await body.text();
  if (statusCode !== 200) throw new Error(`${host} could not give its place back: ${statusCode} ${told}`);
  return performance.now() - startMs;
}

interface Yardstick {
  yardstick: { id: string; value: number };
}

const bareTransaction = (yardstick: Database<Yardstick>, id: string): Promise<void> =>
  yardstick.change(async (change) => {
    await change.insertInto('yardstick').values({ id, value: 0 }).execute();
    await change.updateTable('yardstick').set({ value: 1 }).where('id', '=', id).execute();
  });

/** @throws Error when more hosts are away than may be, or fewer for long */
async function untilFull({ db }: Store, allowed: number): Promise<void> {
  const endMs = performance.now() + FILLED_WITHIN_MS;
  for (;;) {
    const { length } = await db.selectFrom('place').select('holder').execute();
    if (length === allowed) return;
    if (length > allowed || performance.now() > endMs) throw new Error(`${length} are away where ${allowed} may be`);
    await sleep(20);
  }
}

/** Takes every order at once. */
async function acceptingControlPlane(): Promise<AsyncDisposable & { environment: Record<string, string> }> {
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(204).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the control plane has no port');
  return {
    environment: {
      CONTROL_PLANE_URL: `http://127.0.0.1:${address.port}`,
      CONTROL_PLANE_SECRET: 'bench-secret-of-at-least-32-bytes-01',
      CONTROL_PLANE_TOKEN: 'bench-reply-of-at-least-32-bytes-001',
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
