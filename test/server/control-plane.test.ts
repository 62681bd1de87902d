import { execa } from 'execa';
import { expect, onTestFinished, test, vi } from 'vitest';
import { signed } from '../../src/server/control-plane/signed.ts';
import { type Deliverer, deliverDue } from '../../src/server/control-plane.ts';
import { type Maintenance, maintenanceOf } from '../../src/server/maintenance/host.ts';
import { cancelMaintenance } from '../../src/server/maintenance/operate.ts';
import { completeMaintenance, proceed, requestMaintenance, takeDrainProgress } from '../../src/server/maintenance.ts';
import type { Store } from '../../src/server/store.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { type ControlPlaneHost, startControlPlane } from '../support/control-plane.ts';
import { recordedLog } from '../support/fakes.ts';
import { enrol, fleetClock, serverOn } from '../support/fleet-state.ts';
import { onBothEngines, openStore } from '../support/stores.ts';

const SECRET = 'a-secret-that-control-plane-and-server-share';
const HOSTS: readonly ControlPlaneHost[] = [
  { name: 'a', room: 4 },
  { name: 'b', room: 4 },
];

onBothEngines('a control plane that is told what to empty', (freshUrl) => {
  async function setUp(options: { hosts?: readonly ControlPlaneHost[]; refuse?: () => number | null } = {}) {
    const { hosts = HOSTS, ...more } = options;
    const store = await openStore(await freshUrl());
    await enrol(store, ...hosts.map(({ name }) => ({ name })));
    const time = fleetClock();
    // Signatures carry the time, and the control plane looks at it.
    time.nowMs = Date.now();
    const m = serverOn(store, time);
    const report = (progress: Parameters<typeof takeDrainProgress>[1]) =>
      takeDrainProgress(m, progress, 'control-plane');
    const plane = await startControlPlane({ secret: SECRET, hosts, report, ...more });
    const log = recordedLog();
    const http = undiciHttp();
    onTestFinished(() => http.close());
    const delivererOn = (on: Store): Deliverer => {
      const { clock, random } = m;
      return { store: on, http, url: plane.url, secret: SECRET, clock, random, log };
    };
    return {
      store,
      m,
      time,
      plane,
      log,
      delivererOn,
      deliver: () => deliverDue(delivererOn(store)),
      ask: (name: string) =>
        requestMaintenance(m, { node_id: name, target_version: '2.0.0', update_type: 'full' }, name),
    };
  }

  const until = (m: Maintenance, name: string, state: string) =>
    vi.waitFor(async () => expect((await maintenanceOf(m, name)).state).toBe(state), { timeout: 10_000 });

  async function update(m: Maintenance, name: string): Promise<void> {
    const { maintenance_id, fencing_token } = await maintenanceOf(m, name);
    const meant = { node_id: name, maintenance_id: maintenance_id ?? '', fencing_token: fencing_token ?? 0 };
    await proceed(m, { ...meant, state: 'rebooting' }, name);
    await completeMaintenance(m, { node_id: name, success: true, version: '2.0.0' }, name);
  }

  test('moves the VMs away, host after host, and none of them is ever on a host that reboots', async () => {
    const { m, plane, deliver, ask } = await setUp();
    for (const vm of ['vm-1', 'vm-2', 'vm-3']) await plane.run('a', vm);
    for (const [host, other] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      await ask(host);
      await deliver();
      await until(m, host, 'ready');
      expect(plane.on(host)).toEqual([]);
      expect(plane.on(other).toSorted()).toEqual(['vm-1', 'vm-2', 'vm-3']);
      expect(plane.isCordoned(host)).toBe(true);
      expect(await maintenanceOf(m, host)).toMatchObject({ total_vms: 3, migrated_vms: 3, vms_remaining: 0 });
      await update(m, host);
      await deliver();
      expect(plane.isCordoned(host)).toBe(false);
    }
    expect(plane.taken.map(({ what }) => what)).toEqual(['drain a 1', 'uncordon a 1', 'drain b 1', 'uncordon b 1']);
  });

  test('that has no room left says which VM stays, and why; the host waits and does not reboot', async () => {
    const { m, plane, deliver, ask } = await setUp({
      hosts: [
        { name: 'a', room: 4 },
        { name: 'b', room: 1 },
      ],
    });
    for (const vm of ['vm-1', 'vm-2']) await plane.run('a', vm);
    await ask('a');
    await deliver();
    await vi.waitFor(async () => expect((await maintenanceOf(m, 'a')).failed_vms).toHaveLength(1), { timeout: 10_000 });
    expect(await maintenanceOf(m, 'a')).toMatchObject({
      state: 'draining',
      proceed_now: false,
      remaining_vms: ['vm-2'],
      failed_vms: [{ vm: 'vm-2', reason: 'no other host has room' }],
    });
    await cancelMaintenance(m, 'a', { actor: 'operator alice', isItself: false });
    await deliver();
    expect(plane.isCordoned('a')).toBe(false);
    expect(plane.on('a')).toEqual(['vm-2']);
  });

  test('that is down hears of everything later, in order', async () => {
    const { m, plane, time, deliver, ask, log } = await setUp();
    await plane.goDown();
    await ask('a');
    await deliver();
    expect(await maintenanceOf(m, 'a')).toMatchObject({ state: 'draining', proceed_now: false });
    expect((await maintenanceOf(m, 'a')).message).toMatch(/the control plane was not told yet: .*127\.0\.0\.1/);
    expect(await deliver()).toBe(0);
    await cancelMaintenance(m, 'a', { actor: 'operator alice', isItself: false });
    await ask('a');
    await plane.comeUp();
    for (let round = 0; round < 3; round++) {
      time.nowMs += 60_000;
      await deliver();
    }
    expect(plane.taken.map(({ what }) => what)).toEqual(['drain a 1', 'uncordon a 1', 'drain a 2']);
    await until(m, 'a', 'ready');
    expect(log.lines.filter(({ event }) => event === 'control_plane_not_told')).toHaveLength(1);
  });

  test('that answers with an error is asked again', async () => {
    const answers = [500, 503, null];
    const { m, time, plane, deliver, ask } = await setUp({ refuse: () => answers.shift() ?? null });
    await ask('a');
    for (let round = 0; round < 3; round++) {
      await deliver();
      time.nowMs += 60_000;
    }
    expect(plane.taken).toHaveLength(1);
    await until(m, 'a', 'ready');
  });

  test('hears the same thing under the same id when a server died after it had sent it', async () => {
    const { store, m, time, plane, delivererOn, deliver, ask } = await setUp();
    await ask('a');
    let changes = 0;
    const dying: Store = {
      ...store,
      change: (work) => (changes++ === 0 ? store.change(work) : Promise.reject(new Error('killed'))),
    };
    await expect(deliverDue(delivererOn(dying))).rejects.toThrow('killed');
    expect(await deliver(), 'busy with it, for all that others know').toBe(0);
    time.nowMs += 61_000;
    await deliver();
    expect(plane.taken.map(({ what }) => what)).toEqual(['drain a 1', 'drain a 1']);
    expect(new Set(plane.taken.map(({ id }) => id)).size).toBe(1);
    await until(m, 'a', 'ready');
  });

  test('hears each thing from one of two servers', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `h${i}`);
    const { store, plane, delivererOn, ask } = await setUp({ hosts: names.map((name) => ({ name, room: 1 })) });
    await store.change((change) =>
      change.insertInto('budget').values({ domain: 'group:*', max_hosts: 20, max_percent: null }).execute(),
    );
    for (const name of names) await ask(name);
    const other = store.engine === 'postgres' ? await openStore(store.url) : store;
    await Promise.all([store, other, store, other].map((on) => deliverDue(delivererOn(on))));
    await deliverDue(delivererOn(store));
    expect(plane.taken.map(({ what }) => what).toSorted()).toEqual(names.map((name) => `drain ${name} 1`).toSorted());
  });
});

test('the signature is the one of Standard Webhooks, as OpenSSL makes it', async () => {
  const body = '{"node_id":"a"}';
  const headers = signed(SECRET, 'msg-1', body, 1_790_000_000_999);
  const { stdout } = await execa('openssl', ['dgst', '-sha256', '-hmac', SECRET, '-binary'], {
    input: `msg-1.1790000000.${body}`,
    encoding: 'buffer',
  });
  expect(headers).toEqual({
    'webhook-id': 'msg-1',
    'webhook-timestamp': '1790000000',
    'webhook-signature': `v1,${Buffer.from(stdout).toString('base64')}`,
  });
});
