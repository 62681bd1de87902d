import { expect, test } from 'vitest';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { ORDER_ROUTES } from '../../src/format/order-routes.ts';
import { deliverDue } from '../../src/server/control-plane.ts';
import { hostRandom } from '../../src/system/clock.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { startControlPlane } from '../support/control-plane.ts';
import { fakeClock } from '../support/fakes.ts';
import { enrolled, fleetBench, operatorToken, trailOf } from '../support/fleet.ts';
import { PLANE_SECRET } from '../support/planned-fleet.ts';
import { onBothEngines } from '../support/stores.ts';

/** An order that the control plane refuses for ever stands in the way of all that follows, until a person gives it up. */

onBothEngines('an order to the control plane', (freshUrl) => {
  async function setUp() {
    const answers = { refuse: true };
    const plane = await startControlPlane({
      secret: PLANE_SECRET,
      hosts: [{ name: 'a', room: 1 }],
      report: async () => undefined,
      refuse: () => (answers.refuse ? 404 : null),
    });
    const environment = { CONTROL_PLANE_URL: plane.url, CONTROL_PLANE_SECRET: PLANE_SECRET };
    const fleet = await fleetBench({ url: await freshUrl(), environment });
    const host = await enrolled(fleet, 'a');
    const time = { nowMs: Date.now() };
    const http = undiciHttp();
    const deliver = async () => {
      time.nowMs += 61_000;
      const clock = { ...fakeClock(), nowMs: () => time.nowMs };
      const { store, log } = fleet;
      return deliverDue({ store, log, http, url: plane.url, secret: PLANE_SECRET, clock, random: hostRandom() });
    };
    const ask = () =>
      fleet.call({ certificate: host.certificate }, MAINTENANCE_ROUTES.requestMaintenance, {
        body: { node_id: 'a', target_version: '2.0.0', update_type: 'full' },
      });
    const drop = (node_id: string, number: number) =>
      fleet.root(ORDER_ROUTES.dropOrder, { body: { node_id, number, reason: 'installed anew' } });
    const orders = async () => (await fleet.root(ORDER_ROUTES.orders)).json.orders as Record<string, unknown>[];
    return { answers, plane, fleet, host, deliver, ask, drop, orders };
  }

  test('that is refused for ever is listed with the reason, and given up by an admin: the next one is sent', async () => {
    const { answers, plane, fleet, host, deliver, ask, drop, orders } = await setUp();
    await ask();
    await deliver();
    await fleet.root(MAINTENANCE_ROUTES.cancelMaintenance, { params: { nodeId: 'a' } });
    expect(await orders()).toMatchObject([
      { node_id: 'a', number: 1, kind: 'drain', attempts: 1, error: 'the control plane answered 404' },
      { node_id: 'a', number: 2, kind: 'uncordon', attempts: 0, error: null },
    ]);
    const shown = await fleet.root(MAINTENANCE_ROUTES.maintenanceStatus, { params: { nodeId: 'a' } });
    expect(shown.json.message).toContain('qx-fleet order list');

    expect(await drop('a', 1)).toMatchObject({ status: 200, json: { status: 'dropped', number: 1, kind: 'drain' } });
    expect(await drop('a', 1)).toMatchObject({ status: 404, json: { next: expect.stringContaining('order list') } });
    answers.refuse = false;
    await deliver();
    expect(await orders()).toEqual([]);
    expect(plane.taken.map(({ what }) => what)).toEqual(['uncordon a 1']);
    expect((await trailOf(fleet, `node:${host.id}`)).at(-1)).toBe('order_dropped by root on the socket');
    // Its number is not given again: the control plane would take the next order for one that it knows.
    await ask();
    expect(await orders()).toMatchObject([{ number: 3 }]);
  });

  test('about a host that was put out is listed by its id, and given up as well', async () => {
    const { fleet, host, deliver, ask, drop, orders } = await setUp();
    await ask();
    await deliver();
    await fleet.root(NODE_ROUTES.revokeNode, { params: { node: 'a' }, body: { reason: 'scrapped' } });
    await enrolled(fleet, 'a');
    expect(await orders()).toMatchObject([{ node_id: host.id, number: 1 }]);
    expect(await drop('a', 1)).toMatchObject({ status: 404 });
    expect(await drop(host.id, 1)).toMatchObject({ status: 200 });
    expect(await orders()).toEqual([]);
  });

  test('is shown to viewers and given up by admins', async () => {
    const { fleet, ask } = await setUp();
    await ask();
    const viewer = { token: await operatorToken(fleet, 'eve', 'viewer') };
    const operator = { token: await operatorToken(fleet, 'olga', 'operator') };
    const body = { node_id: 'a', number: 1, reason: 'a test' };
    expect((await fleet.call(viewer, ORDER_ROUTES.orders)).status).toBe(200);
    expect((await fleet.call(operator, ORDER_ROUTES.dropOrder, { body })).json.code).toBe('ROLE_MISSING');
  });
});
