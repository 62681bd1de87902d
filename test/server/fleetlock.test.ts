import { execa } from 'execa';
import { expect, test } from 'vitest';
import type { FleetLockRequest } from '../../src/format/fleetlock.ts';
import type { Call, Principal } from '../../src/ports/serving.ts';
import { firstBroken } from '../../src/server/audit.ts';
import { fleetLockHandlers } from '../../src/server/fleetlock.ts';
import { maintenanceOf } from '../../src/server/maintenance/host.ts';
import { cancelMaintenance } from '../../src/server/maintenance/operate.ts';
import { requestMaintenance } from '../../src/server/maintenance.ts';
import { fleetBench, operatorToken } from '../support/fleet.ts';
import { enrol, fleetClock, serverOn } from '../support/fleet-state.ts';
import { onBothEngines, openStore } from '../support/stores.ts';
import { temporaryFolder } from '../support/temp.ts';

const OPERATOR: Principal = { kind: 'operator', name: 'zincati', role: 'operator' };

onBothEngines('FleetLock', (freshUrl) => {
  async function setUp() {
    const store = await openStore(await freshUrl());
    await enrol(store, { name: 'qhci-01' });
    const m = serverOn(store, fleetClock());
    const handlers = fleetLockHandlers(m);
    const call = (id: string, more: { header?: string; principal?: Principal; group?: string } = {}) => {
      const { header = 'true', principal = OPERATOR, group = 'default' } = more;
      const body: FleetLockRequest = { client_params: { id, group } };
      const caller = { headers: { 'fleet-lock-protocol': header } };
      return { body, caller, principal } as unknown as Call<never>;
    };
    const say = async (reply: Promise<object>) => {
      const said = (await reply) as { refused?: { code: string }; members?: { kind: string } };
      return said.refused === undefined ? 'granted' : said.members?.kind;
    };
    return {
      store,
      m,
      preReboot: (...args: Parameters<typeof call>) => say(handlers.preReboot(call(...args))),
      steadyState: (...args: Parameters<typeof call>) => say(handlers.steadyState(call(...args))),
    };
  }

  test('lets one of them reboot at a time; asked again, the answer is the same', async () => {
    const { preReboot, steadyState, store } = await setUp();
    expect(await preReboot('m1')).toBe('granted');
    expect(await preReboot('m1')).toBe('granted');
    expect(await preReboot('m2')).toBe('failed_lock_semaphore_full');
    expect(await preReboot('m2', { group: 'other' })).toBe('granted');
    expect(await steadyState('m2')).toBe('granted');
    expect(await preReboot('m2')).toBe('failed_lock_semaphore_full');
    expect(await steadyState('m1')).toBe('granted');
    expect(await steadyState('m1')).toBe('granted');
    expect(await preReboot('m2')).toBe('granted');
    const trail = await store.db
      .selectFrom('audit')
      .select('event')
      .where('subject', '=', 'fleetlock:default/m1')
      .execute();
    expect(trail.map(({ event }) => event)).toEqual(['place_taken', 'place_given_back']);
    expect(await firstBroken(store.db, 'fleetlock:default/m1')).toBeNull();
  });

  test('shares the budget with our own hosts', async () => {
    const { m, preReboot, steadyState } = await setUp();
    await preReboot('m1');
    const request = { node_id: 'qhci-01', target_version: '2.0.0', update_type: 'full' as const };
    expect(await requestMaintenance(m, request, 'node qhci-01')).toMatchObject({ state: 'requested' });
    await steadyState('m1');
    expect(await maintenanceOf(m, 'qhci-01')).toMatchObject({ state: 'draining' });
    expect(await preReboot('m1')).toBe('failed_lock_semaphore_full');
    await cancelMaintenance(m, 'qhci-01', { actor: 'operator alice', isItself: false });
    expect(await preReboot('m1')).toBe('granted');
  });

  test('refuses a request without its header, as a page could send it, and an enrolled host', async () => {
    const { store, preReboot } = await setUp();
    expect(await preReboot('m1', { header: 'yes' })).toBe('missing_protocol_header');
    const principal: Principal = { kind: 'node', id: 'x', name: 'qhci-01', fingerprint: 'f' };
    expect(await preReboot('m1', { principal })).toBe('invalid_client_identity');
    expect(await store.db.selectFrom('place').selectAll().execute()).toEqual([]);
  });
});

test('is spoken with as its own documents do it by curl, and each refusal has its kind and value', async () => {
  const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
  const token = await operatorToken(fleet, 'zincati', 'operator');
  const ask = async (body: string, ...more: string[]) => {
    const url = `https://zincati:${token}@127.0.0.1:${fleet.port}/v1/pre-reboot`;
    const args = ['-sk', '-w', '\n%{http_code}', '-H', 'fleet-lock-protocol: true', '-d', body, ...more, url];
    const [text = '', status] = (await execa('curl', args)).stdout.split('\n');
    return { status: Number(status), ...JSON.parse(text) };
  };
  const params = '{"client_params":{"id":"c988d2509fdf5cdcbed39037c56406fb","group":"default"}}';
  expect(await ask(params)).toMatchObject({ status: 200 });
  const refused = [
    await ask(params.replace('c988', '0000')),
    await ask('{"client_params":{"id":"a"}}'),
    await ask('not JSON'),
    await ask(params, '-H', 'Content-Type: text/plain'),
    await ask(params, '-H', 'Authorization: Bearer wrong'),
    await ask(params, '-H', 'fleet-lock-protocol: no'),
  ];
  expect(refused.map(({ status, kind }) => [status, kind])).toEqual([
    [409, 'failed_lock_semaphore_full'],
    [400, 'bad_request'],
    [400, 'bad_request'],
    [415, 'media_type_unsupported'],
    [401, 'token_refused'],
    [400, 'missing_protocol_header'],
  ]);
  for (const { value } of refused) expect(value.length).toBeGreaterThan(5);
});

test('a form is no body of anything else', async () => {
  const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
  const token = await operatorToken(fleet, 'alice', 'admin');
  const as = { token, headers: { 'content-type': 'application/x-www-form-urlencoded' } };
  const { status } = await fleet.raw(as, 'POST', '/api/v1/nodes/invite', '{"name":"qhci-09"}');
  expect(status).toBe(415);
});
