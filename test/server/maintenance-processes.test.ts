import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { POSTGRES } from '../../scripts/support/postgres.ts';
import type { DrainProgress, MaintenanceStatus } from '../../src/format/maintenance.ts';
import { firstBroken } from '../../src/server/audit.ts';
import type { Store } from '../../src/server/store.ts';
import { startControlPlane } from '../support/control-plane.ts';
import { enrol, setBudget } from '../support/fleet-state.ts';
import { postgres } from '../support/postgres.ts';
import { requires } from '../support/requires.ts';
import { openStore } from '../support/stores.ts';
import { temporaryFolder } from '../support/temp.ts';
import { type RunningServer, startServer } from '../support/update-server.ts';

/** Two servers as processes on one PostgreSQL, a control plane that moves processes, and hosts that come back until they are served. */

const SECRET = 'control-plane-secret-of-more-than-32-bytes';
const TOKEN = 'control-plane-token-of-more-than-32-bytes-1';
const HOSTS = ['h0', 'h1', 'h2', 'h3', 'h4', 'h5'];
const AT_ONCE = 2;

requires(POSTGRES)('two servers that are killed over and over', () => {
  const freshUrl = postgres();

  test('never let too many hosts go, nor one that carries a VM, and all come to their end', {
    timeout: 180_000,
  }, async () => {
    const url = await freshUrl();
    const store = await openStore(url);
    await enrol(store, ...HOSTS.map((name) => ({ name })));
    await setBudget(store, 'group:default', { hosts: AT_ONCE });

    const servers: RunningServer[] = [];
    const send = async (path: string, body: object, headers: Record<string, string>): Promise<Response> => {
      for (let attempt = 0; ; attempt++) {
        const server = servers[attempt % servers.length];
        try {
          const init = {
            method: 'POST',
            body: JSON.stringify(body),
            headers: { 'content-type': 'application/json', ...headers },
          };
          const response = await fetch(`${server?.url}/api/v1/maintenance/${path}`, init);
          if (response.status < 500) return response;
        } catch {
          // Killed: the other one, or the same one later.
        }
        await sleep(100);
      }
    };
    const report = (progress: DrainProgress) => send('drain-progress', progress, { authorization: `Bearer ${TOKEN}` });
    const plane = await startControlPlane({ secret: SECRET, hosts: HOSTS.map((name) => ({ name, room: 6 })), report });
    for (const name of HOSTS) await plane.run(name, `vm-of-${name}`);

    const environment = async () => ({
      RELEASE_DIR: `${await temporaryFolder()}/releases`,
      STATE_DATABASE_URL: url,
      CONTROL_PLANE_URL: plane.url,
      CONTROL_PLANE_SECRET: SECRET,
      CONTROL_PLANE_TOKEN: TOKEN,
    });
    const places = [await environment(), await environment()];
    for (const [i, place] of places.entries()) servers[i] = await startServer(place, ['--dev']);

    const over = { isOver: false, kills: 0 };
    const kill = async (): Promise<void> => {
      while (!over.isOver) {
        await sleep(300 + Math.random() * 900);
        const i = over.kills % 2;
        servers[i]?.kill('SIGKILL');
        // As whoever starts it again does: while it is there it holds its lock.
        await servers[i]?.ended;
        over.kills += 1;
        if (over.kills % 3 === 0) await plane.goDown();
        servers[i] = await startServer(places[i] ?? {}, ['--dev']);
        if (over.kills % 3 === 0) await plane.comeUp();
      }
    };
    const killing = kill();
    const watching = watch(store, over);

    const update = async (node_id: string): Promise<void> => {
      const as = { 'x-qx-dev-node': node_id };
      const request = { node_id, target_version: '2.0.0', update_type: 'full', requires_reboot: true };
      for (;;) {
        const now = (await (await send('request', request, as)).json()) as MaintenanceStatus;
        if (now.state === 'rebooting') break;
        if (now.proceed_now) {
          const step = {
            node_id,
            maintenance_id: now.maintenance_id,
            fencing_token: now.fencing_token,
            state: 'rebooting',
          };
          expect(plane.on(node_id), `${node_id} was told to go on`).toEqual([]);
          await send('proceed', step, as);
        }
        await sleep(50);
      }
      expect(plane.on(node_id), `${node_id} reboots`).toEqual([]);
      await sleep(200);
      await send('complete', { node_id, success: true, version: '2.0.0' }, as);
    };
    const rounds = { count: 0 };
    try {
      for (; over.kills < 4; rounds.count++) await Promise.all(HOSTS.map(update));
    } finally {
      over.isOver = true;
    }
    await killing;
    const most = await watching;

    expect(most).toBe(AT_ONCE);
    const rows = await store.db.selectFrom('maintenance').select('state').execute();
    expect(rows.map(({ state }) => state)).toEqual(Array(HOSTS.length * rounds.count).fill('completed'));
    expect(HOSTS.flatMap((name) => plane.on(name)).toSorted()).toEqual(HOSTS.map((name) => `vm-of-${name}`));
    await expect.poll(() => HOSTS.filter((name) => plane.isCordoned(name)), { timeout: 90_000 }).toEqual([]);
    const nodes = await store.db.selectFrom('node').select('id').execute();
    for (const { id } of nodes) expect(await firstBroken(store.db, `node:${id}`)).toBeNull();
  });
});

/** Answers how many were away at most. */
async function watch({ db }: Store, over: { readonly isOver: boolean }): Promise<number> {
  let most = 0;
  while (!over.isOver) {
    const { length } = await db.selectFrom('place').select('holder').execute();
    most = Math.max(most, length);
    await sleep(20);
  }
  return most;
}
