import { describe, expect, test } from 'vitest';
import { BUDGET_ROUTES } from '../../src/format/budget-routes.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { FLEETLOCK_ROUTES } from '../../src/format/fleetlock.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import {
  type As,
  CONTROL_PLANE_TOKEN,
  type EnrolledHost,
  enrolled,
  type FleetBench,
  fleetBench,
  operatorToken,
  trailOf,
} from '../support/fleet.ts';
import { temporaryFolder } from '../support/temp.ts';

/** Maintenance as hosts, control plane and operators meet it: over TLS, each with what he can prove. */

const R = MAINTENANCE_ROUTES;
const WITH_CONTROL_PLANE = {
  CONTROL_PLANE_URL: 'http://127.0.0.1:9',
  CONTROL_PLANE_SECRET: 'control-plane-secret-of-more-than-32-bytes',
};

async function setUp(environment: Record<string, string> = WITH_CONTROL_PLANE) {
  const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, environment });
  const host = await enrolled(fleet, 'qhci-01');
  const itself = { certificate: host.certificate };
  const plane = { token: CONTROL_PLANE_TOKEN };
  const request = (as: As = itself, more: object = {}) =>
    fleet.call(as, R.requestMaintenance, {
      body: { node_id: 'qhci-01', target_version: '0.0.6', update_type: 'full', requires_reboot: true, ...more },
    });
  const empty = (as: As = plane, more: object = {}) =>
    fleet.call(as, R.drainProgress, {
      body: { node_id: 'qhci-01', epoch: 1, total_vms: 3, migrated_vms: 3, completed: true, ...more },
    });
  const status = (as: As, nodeId = 'qhci-01') => fleet.call(as, R.maintenanceStatus, { params: { nodeId } });
  return { fleet, host, itself, plane, request, empty, status };
}

async function proceed(fleet: FleetBench, { certificate, name }: EnrolledHost, state: string, more: object = {}) {
  const { json } = await fleet.call({ certificate }, R.maintenanceStatus, { params: { nodeId: name } });
  const { maintenance_id, fencing_token = 1 } = json;
  return fleet.call({ certificate }, R.proceed, {
    body: { node_id: name, maintenance_id, fencing_token, state, ...more },
  });
}

describe('the six endpoints of the seed', () => {
  test('take its request, answer with its fields, and are found by host and by maintenance', async () => {
    const { fleet, host, itself, plane, request, empty, status } = await setUp();
    const asked = await request();
    expect(asked.status).toBe(200);
    expect(asked.json).toMatchObject({
      approved: true,
      state: 'draining',
      message: 'Draining VMs from node',
      wait_seconds: 30,
      proceed_now: false,
      vms_remaining: 0,
    });
    const id = String(asked.json.maintenance_id);
    await empty(plane, { migrated_vms: 1, completed: false, remaining_vms: ['vm-2', 'vm-3'], failed_vms: ['vm-3'] });
    expect((await status(itself, id)).json).toMatchObject({ message: 'Draining VMs: 1/3 migrated', vms_remaining: 2 });
    await empty();
    expect((await status(itself)).json).toMatchObject({
      approved: true,
      state: 'ready',
      message: 'Node is drained, ready for update',
      proceed_now: true,
    });
    expect((await proceed(fleet, host, 'rebooting')).json).toMatchObject({ state: 'rebooting' });
    const over = { body: { node_id: 'qhci-01', success: true, version: '0.0.6' } };
    expect((await fleet.call(itself, R.completeMaintenance, over)).json).toMatchObject({ state: 'completed' });
    expect((await fleet.root(R.listMaintenance)).json).toEqual({ nodes: [], count: 0 });
    expect(await trailOf(fleet, `node:${host.id}`)).toEqual([
      'node_enrolled by node qhci-01',
      'maintenance_requested by node qhci-01',
      'maintenance_draining by node qhci-01',
      'maintenance_ready by control-plane',
      'maintenance_rebooting by node qhci-01',
      'maintenance_completed by node qhci-01',
    ]);
  });

  test('an order to the control plane names the certificate under which the host asked', async () => {
    const { fleet, host, request } = await setUp();
    await request();
    const { body } = await fleet.store.db.selectFrom('outbox').select('body').executeTakeFirstOrThrow();
    const { X509Certificate } = await import('node:crypto');
    const { fingerprint256 } = new X509Certificate(host.certificate.cert);
    expect(JSON.parse(body)).toMatchObject({
      node_id: 'qhci-01',
      node_uuid: host.id,
      certificate_fingerprint: fingerprint256,
    });
  });

  test('without a control plane a host reports for itself, and with one it cannot', async () => {
    const alone = await setUp({});
    await alone.request();
    expect((await alone.empty(alone.itself)).json).toMatchObject({ state: 'ready', drain_by: 'host' });
    const managed = await setUp();
    await managed.request();
    const { status, json } = await managed.empty(managed.itself);
    expect([status, json.code]).toEqual([403, 'FORBIDDEN']);
    expect((await managed.status(managed.itself)).json).toMatchObject({ state: 'draining', drain_by: 'control-plane' });
  });
});

describe('T46: a host speaks for itself', () => {
  test.each([
    [
      'asks',
      (fleet: FleetBench, as: As) =>
        fleet.call(as, R.requestMaintenance, {
          body: { node_id: 'qhci-01', target_version: '1.0.0', update_type: 'full' },
        }),
    ],
    ['looks', (fleet: FleetBench, as: As) => fleet.call(as, R.maintenanceStatus, { params: { nodeId: 'qhci-01' } })],
    [
      'completes',
      (fleet: FleetBench, as: As) =>
        fleet.call(as, R.completeMaintenance, { body: { node_id: 'qhci-01', success: true } }),
    ],
    ['cancels', (fleet: FleetBench, as: As) => fleet.call(as, R.cancelMaintenance, { params: { nodeId: 'qhci-01' } })],
    [
      'goes on',
      (fleet: FleetBench, as: As) =>
        fleet.call(as, R.proceed, {
          body: { node_id: 'qhci-01', maintenance_id: 'x', fencing_token: 1, state: 'rebooting' },
        }),
    ],
    [
      'reports',
      (fleet: FleetBench, as: As) =>
        fleet.call(as, R.drainProgress, {
          body: { node_id: 'qhci-01', epoch: 1, total_vms: 0, migrated_vms: 0, completed: true },
        }),
    ],
  ])('one that %s for another is refused, and nothing has changed', async (_what, call) => {
    const { fleet, request, status, itself } = await setUp({});
    await request();
    const before = (await status(itself)).json;
    const other = await enrolled(fleet, 'qhci-02');
    const { status: code, json } = await call(fleet, { certificate: other.certificate });
    expect([code, json.code]).toEqual([403, 'NODE_MISMATCH']);
    expect((await status(itself)).json).toEqual(before);
  });

  test('one that says it runs the new version, but names another, is not believed', async () => {
    const { fleet, host, itself, request, empty } = await setUp();
    await request();
    await empty();
    await proceed(fleet, host, 'rebooting');
    const over = { body: { node_id: 'qhci-01', success: true, version: '0.0.5' } };
    const { status, json } = await fleet.call(itself, R.completeMaintenance, over);
    expect([status, json.code]).toEqual([400, 'BAD_REQUEST']);
  });

  test('revoked, it is heard no more on the connection that it has, and holds no place', async () => {
    const { fleet, host, itself, request } = await setUp();
    await request();
    await fleet.root(NODE_ROUTES.revokeNode, { params: { node: 'qhci-01' }, body: { reason: 'stolen' } });
    expect((await fleet.call(itself, R.maintenanceStatus, { params: { nodeId: 'qhci-01' } })).json.code).toBe(
      'NODE_REVOKED',
    );
    const next = await enrolled(fleet, 'qhci-02');
    const asked = await fleet.call({ certificate: next.certificate }, R.requestMaintenance, {
      body: { node_id: 'qhci-02', target_version: '1.0.0', update_type: 'full' },
    });
    expect(asked.json).toMatchObject({ state: 'draining', holds_place: true });
    expect(await trailOf(fleet, `node:${host.id}`)).toContain('maintenance_failed by root on the socket');
  });
});

describe('nobody else', () => {
  test('changes anything without a proof of who he is', async () => {
    const { fleet, itself, request, status } = await setUp();
    await request();
    const before = (await status(itself)).json;
    const params = { nodeId: 'qhci-01' };
    const body = {
      node_id: 'qhci-01',
      target_version: '1.0.0',
      update_type: 'full',
      epoch: 1,
      total_vms: 0,
      migrated_vms: 0,
      completed: true,
    };
    const lock = { client_params: { id: 'm', group: 'default' } };
    const viewer = { token: await operatorToken(fleet, 'vera', 'viewer') };
    const operator = { token: await operatorToken(fleet, 'otto', 'operator') };
    const attempts = [
      await fleet.call({}, R.requestMaintenance, { body }),
      await fleet.call({}, R.drainProgress, { body }),
      await fleet.call({}, R.cancelMaintenance, { params }),
      await fleet.call({}, R.listMaintenance),
      await fleet.call({}, FLEETLOCK_ROUTES.preReboot, { body: lock }),
      await fleet.call({}, BUDGET_ROUTES.setBudget, {
        params: { domain: 'rack' },
        body: { max_hosts: 1, max_percent: null },
      }),
      await fleet.call(viewer, R.cancelMaintenance, { params }),
      await fleet.call(operator, R.forceMaintenance, { params, body: { reason: 'because' } }),
      await fleet.call(operator, R.drainProgress, { body }),
      await fleet.call(operator, R.requestMaintenance, { body }),
      await fleet.call(operator, BUDGET_ROUTES.setBudget, {
        params: { domain: 'rack' },
        body: { max_hosts: 1, max_percent: null },
      }),
      await fleet.call({ token: CONTROL_PLANE_TOKEN }, R.cancelMaintenance, { params }),
    ];
    expect(attempts.map((answer) => answer.status)).toEqual([
      401, 401, 401, 401, 401, 401, 403, 403, 403, 401, 403, 403,
    ]);
    expect((await status(itself)).json).toEqual(before);
  });

  test('an operator cancels, an admin forces with a reason that is kept', async () => {
    const { fleet, host, request, status, itself } = await setUp();
    await request();
    const params = { nodeId: 'qhci-01' };
    const admin = { token: await operatorToken(fleet, 'ada', 'admin') };
    const none = await fleet.call(admin, R.forceMaintenance, { params, body: {} });
    expect([none.status, none.json.code]).toEqual([400, 'BAD_REQUEST']);
    await fleet.call(admin, R.forceMaintenance, { params, body: { reason: 'water in the rack' } });
    expect((await status(itself)).json).toMatchObject({ state: 'ready', proceed_now: true });
    const operator = { token: await operatorToken(fleet, 'otto', 'operator') };
    expect((await fleet.call(operator, R.cancelMaintenance, { params })).json).toMatchObject({ state: 'cancelled' });
    const trail = await fleet.store.db
      .selectFrom('audit')
      .select('entry')
      .where('subject', '=', `node:${host.id}`)
      .execute();
    expect(trail.map(({ entry }) => JSON.parse(entry).reason)).toContain('water in the rack');
    expect(await trailOf(fleet, `node:${host.id}`)).toContain('maintenance_cancelled by operator otto');
  });

  test('FleetLock is spoken by an operator, and shares the places', async () => {
    const { fleet, request } = await setUp();
    const operator = {
      token: await operatorToken(fleet, 'zincati', 'operator'),
      headers: { 'fleet-lock-protocol': 'true' },
    };
    const lock = (id: string) =>
      fleet.call(operator, FLEETLOCK_ROUTES.preReboot, { body: { client_params: { id, group: 'default' } } });
    expect((await lock('m1')).status).toBe(200);
    const refused = await lock('m2');
    expect([refused.status, refused.json.kind]).toEqual([409, 'failed_lock_semaphore_full']);
    expect((await request()).json).toMatchObject({ state: 'requested', approved: false });
    // As whoever has no more than an address sends it: https://NAME:TOKEN@SERVER.
    const basic = (word: string) => `Basic ${Buffer.from(`zincati:${word}`).toString('base64')}`;
    const release = (word: string) =>
      fleet.call(
        { headers: { 'fleet-lock-protocol': 'true', authorization: basic(word) } },
        FLEETLOCK_ROUTES.steadyState,
        { body: { client_params: { id: 'm1', group: 'default' } } },
      );
    expect((await release('qxo_wrong')).json.code).toBe('TOKEN_REFUSED');
    expect((await release(operator.token)).status).toBe(200);
    expect((await request()).json).toMatchObject({ state: 'draining', approved: true });
  });

  test.each([
    ['a version that is none', { target_version: '../1' }],
    ['no type', { update_type: undefined }],
    ['another type', { update_type: 'sql' }],
    ['a host that is a path', { node_id: '../../etc' }],
    ['a prototype', { node_id: '__proto__' }],
  ])('%s is refused', async (_what, more) => {
    const { request, status, itself } = await setUp();
    const answer = await request(itself, more);
    expect([400, 403]).toContain(answer.status);
    expect((await status(itself)).json).toMatchObject({ state: 'none' });
  });
});
