import { X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import type { Store, Tables } from '../../src/server/store.ts';
import {
  CONTROL_PLANE_TOKEN,
  enrolled,
  type FleetBench,
  fleetBench,
  invited,
  operatorToken,
} from '../support/fleet.ts';
import { hostKey } from '../support/node-keys.ts';
import { plannedFleet } from '../support/planned-fleet.ts';
import { onBothEngines } from '../support/stores.ts';

const TABLES = [
  'node',
  'node_domain',
  'node_certificate',
  'node_invite',
  'operator',
  'maintenance',
  'place',
  'place_domain',
  'budget',
  'outbox',
  'gate',
  'audit',
] as const satisfies readonly (keyof Tables)[];

async function everything({ db }: Store): Promise<object> {
  const rows = TABLES.map(async (table) => [table, await db.selectFrom(table).selectAll().execute()] as const);
  return Object.fromEntries(await Promise.all(rows));
}

const HOSTS = [
  { name: 'a', room: 4 },
  { name: 'b', room: 1 },
  { name: 'c', room: 4 },
];

onBothEngines('a drain plan', (freshUrl) => {
  test('names the host that each VM would move to, changes nothing, and the drain then does just that', async () => {
    const { fleet, plane, host, plan, ask, drain } = await plannedFleet(await freshUrl(), HOSTS);
    for (const vm of ['vm-1', 'vm-2', 'vm-3']) await plane.run('a', vm);
    const before = await everything(fleet.store);
    const { status, json } = await plan('a');
    expect([status, json]).toEqual([
      200,
      {
        node_id: 'a',
        group: 'default',
        state: 'none',
        place: 'free',
        drain_by: 'control-plane',
        control_plane: 'answered',
        message: '3 of 3 VMs would move',
        vms: [
          { vm: 'vm-1', target_node: 'b' },
          { vm: 'vm-2', target_node: 'c' },
          { vm: 'vm-3', target_node: 'c' },
        ],
        blocks: [],
        expected_seconds: null,
        past_drains: 0,
      },
    ]);
    expect(await everything(fleet.store)).toEqual(before);
    expect([plane.taken, plane.isCordoned('a'), plane.on('a')]).toEqual([[], false, ['vm-1', 'vm-2', 'vm-3']]);
    const { certificate, id } = host('a');
    const { fingerprint256 } = new X509Certificate(certificate.cert);
    expect(plane.planned).toEqual([{ node_id: 'a', node_uuid: id, certificate_fingerprint: fingerprint256 }]);

    await ask('a');
    await drain('a');
    expect([plane.on('a'), plane.on('b'), plane.on('c')]).toEqual([[], ['vm-1'], ['vm-2', 'vm-3']]);
    expect((await plan('a')).json).toMatchObject({ state: 'ready', place: 'held', vms: [], expected_seconds: 0 });
  });

  test('says what blocks, and for which VM', async () => {
    const { plane, plan } = await plannedFleet(
      await freshUrl(),
      [HOSTS[0], HOSTS[1]].flatMap((one) => one ?? []),
    );
    await plane.run('a', 'vm-1', 'a USB stick is passed through');
    await plane.run('a', 'vm-2');
    await plane.run('a', 'vm-3');
    expect((await plan('a')).json).toMatchObject({
      message: '1 of 3 VMs would move; it does not become empty before what blocks is gone',
      vms: [
        { vm: 'vm-1', target_node: null, reason: 'a USB stick is passed through' },
        { vm: 'vm-2', target_node: 'b' },
        { vm: 'vm-3', target_node: null, reason: 'no other host has room' },
      ],
      blocks: [
        { vm: 'vm-1', reason: 'a USB stick is passed through' },
        { vm: 'vm-3', reason: 'no other host has room' },
      ],
    });
  });

  test('says whether there is a place, and what it waits for', async () => {
    const { fleet, plan, ask } = await plannedFleet(await freshUrl(), HOSTS);
    await ask('a');
    expect((await plan('a')).json).toMatchObject({ state: 'draining', place: 'held' });
    const waiting = (await plan('b')).json;
    expect(waiting).toMatchObject({
      state: 'none',
      place: 'taken',
      waits_for: 'group:default has 1 away, at most 1 may be',
    });
    await fleet.root(MAINTENANCE_ROUTES.cancelMaintenance, { params: { nodeId: 'a' } });
    const free = (await plan('b')).json;
    expect(free).toMatchObject({ place: 'free' });
    expect(free).not.toHaveProperty('waits_for');
  });

  test('tells how long it takes from the drains of the host, and from those of its group before there is one', async () => {
    const { fleet, plane, host, plan, ask, drained } = await plannedFleet(await freshUrl(), HOSTS);
    for (const vm of ['vm-1', 'vm-2', 'vm-3']) await plane.run('a', vm);
    await drained('b', { seconds: 100, vms: 1 });
    await drained('b', { seconds: 40, vms: 2 });
    // Neither of these says how long VMs take: nothing was moved, and nothing was waited for.
    await drained('b', { seconds: 1, vms: 0 });
    const { json } = await ask('b');
    const progress = { node_id: 'b', epoch: json.fencing_token, total_vms: 9, migrated_vms: 1, completed: false };
    await fleet.call({ token: CONTROL_PLANE_TOKEN }, MAINTENANCE_ROUTES.drainProgress, { body: progress });
    const forced = { params: { nodeId: 'b' }, body: { reason: 'water in the rack' } };
    expect((await fleet.root(MAINTENANCE_ROUTES.forceMaintenance, forced)).json).toMatchObject({ state: 'ready' });
    await fleet.root(MAINTENANCE_ROUTES.cancelMaintenance, { params: { nodeId: 'b' } });

    const ofGroup = { expected_seconds: 180, past_drains: 2, past_drains_of: 'group' };
    expect((await plan('a')).json).toMatchObject(ofGroup);
    await drained('a', { seconds: 30, vms: 3 });
    const ofHost = { expected_seconds: 30, past_drains: 1, past_drains_of: 'host' };
    expect((await plan('a', { certificate: host('a').certificate })).json).toMatchObject(ofHost);
    await plane.goDown();
    expect((await plan('b')).json).toMatchObject({
      control_plane: 'failed',
      vms: null,
      blocks: null,
      expected_seconds: 70,
      past_drains: 2,
      past_drains_of: 'host',
    });
  });

  test('looks at the latest twenty drains, and not at those of another group', async () => {
    const { fleet, plane, plan, host } = await plannedFleet(await freshUrl(), HOSTS);
    await plane.run('a', 'vm-1');
    const other = await enrolled(fleet, 'other');
    const past = (node_id: string, fleet_group: string, ordinal: number, seconds: number) => ({
      ...{ id: `${node_id}-${ordinal}`.slice(-60), node_id, ordinal, fleet_group, state: 'completed' as const },
      ...{ target_version: '1.0.0', update_type: 'full' as const, requires_reboot: 1, epoch: 1, requested_ms: 0 },
      ...{ draining_ms: ordinal * 10_000_000, ready_ms: ordinal * 10_000_000 + seconds * 1000, expires_ms: null },
      ...{ update_started_ms: null, completed_ms: null, error: null, failed_vms: '[]', remaining_vms: '[]' },
      ...{ total_vms: 1, migrated_vms: 1 },
    });
    const old = Array.from({ length: 30 }, (_, i) => past(host('b').id, 'default', i + 1, 5000));
    const late = Array.from({ length: 20 }, (_, i) => past(host('b').id, 'default', i + 31, 60));
    // A clock that stepped back.
    const odd = Array.from({ length: 20 }, (_, i) => past(host('b').id, 'default', i + 51, -3000));
    const elsewhere = Array.from({ length: 20 }, (_, i) => past(other.id, 'edge', i + 71, 7));
    await fleet.store.change((change) =>
      change
        .insertInto('maintenance')
        .values([...old, ...late, ...odd, ...elsewhere])
        .execute(),
    );
    expect((await plan('a')).json).toMatchObject({ expected_seconds: 60, past_drains: 20, past_drains_of: 'group' });
    expect((await plan('b')).json).toMatchObject({ past_drains: 0, expected_seconds: 0 });
    await plane.goDown();
    expect((await plan('b')).json).toMatchObject({ expected_seconds: 60, past_drains: 20, past_drains_of: 'host' });
  });

  test('of a host that empties itself, or carries no VMs, says so', async () => {
    const fleet = await fleetBench({ url: await freshUrl() });
    await enrolled(fleet, 'a');
    const body = hostKey().enrolBy(await invited(fleet, 'b', { carries_vms: false }));
    expect((await fleet.call({}, NODE_ROUTES.enroll, { body })).status).toBe(200);
    const plan = (nodeId: string) => fleet.root(MAINTENANCE_ROUTES.maintenancePlan, { params: { nodeId } });
    expect((await plan('a')).json).toMatchObject({
      drain_by: 'host',
      control_plane: 'not-asked',
      message: 'The host empties itself: what moves where is not known here',
      vms: null,
      blocks: null,
      expected_seconds: null,
    });
    expect((await plan('b')).json).toMatchObject({
      drain_by: 'nobody',
      control_plane: 'not-asked',
      message: 'It carries no VMs: nothing has to move',
      vms: [],
      blocks: [],
      expected_seconds: 0,
    });
  });

  test('is for the host itself and for viewers', async () => {
    const { fleet, plane, host, plan } = await plannedFleet(await freshUrl(), HOSTS);
    const itself = { certificate: host('a').certificate };
    const viewer = { token: await operatorToken(fleet, 'eve', 'viewer') };
    expect((await plan('a', itself)).json).toMatchObject({ node_id: 'a' });
    expect((await plan(host('a').id, itself)).json).toMatchObject({ node_id: 'a' });
    expect((await plan(host('a').id, viewer)).json).toMatchObject({ node_id: 'a' });
    const asked = plane.planned.length;
    const refusals = [
      await plan('b', itself),
      await plan(host('b').id, itself),
      await plan('nobody', itself),
      await plan('nobody', viewer),
      await plan('../a', viewer),
      await plan('A', viewer),
      await plan('a', {}),
      await plan('a', { token: CONTROL_PLANE_TOKEN }),
    ];
    expect(refusals.map(({ status, json }) => [status, json.code])).toEqual([
      [403, 'NODE_MISMATCH'],
      [403, 'NODE_MISMATCH'],
      [403, 'NODE_MISMATCH'],
      [404, 'NODE_UNKNOWN'],
      [400, 'BAD_REQUEST'],
      [400, 'BAD_REQUEST'],
      [401, 'TOKEN_REQUIRED'],
      [403, 'ROLE_MISSING'],
    ]);
    expect(plane.planned).toHaveLength(asked);
  });

  test('is not made of a host that waits for approval, or was put out: another one may go by its name', async () => {
    const { fleet, plane, host, plan } = await plannedFleet(await freshUrl(), HOSTS);
    const body = hostKey().enrolBy(await invited(fleet, 'new', { needs_approval: true }));
    await fleet.call({}, NODE_ROUTES.enroll, { body });
    await revoke(fleet, 'a');
    const again = await enrolled(fleet, 'a');
    const refused = [await plan('new'), await plan(host('a').id)];
    expect(refused.map(({ status, json }) => [status, json.code])).toEqual([
      [403, 'APPROVAL_PENDING'],
      [403, 'NODE_REVOKED'],
    ]);
    expect(plane.planned).toEqual([]);
    await plan('a');
    expect(plane.planned).toMatchObject([{ node_uuid: again.id }]);
  });
});

const revoke = (fleet: FleetBench, node: string) =>
  fleet.root(NODE_ROUTES.revokeNode, { params: { node }, body: { reason: 'disk stolen' } });
