import { expect, onTestFinished, test, vi } from 'vitest';
import { PLAN_MAX_BYTES } from '../../src/format/control-plane.ts';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { askDrainPlan } from '../../src/server/control-plane/plan.ts';
import { undiciHttp } from '../../src/system/http.ts';
import {
  type Answer,
  type BadServer,
  badServer,
  cutAfter,
  drip,
  endless,
  serveWhole,
  silence,
  status,
} from '../support/bad-server.ts';
import { fakeClock } from '../support/fakes.ts';
import { enrolled, fleetBench } from '../support/fleet.ts';
import { PLANE_SECRET } from '../support/planned-fleet.ts';
import { temporaryFolder } from '../support/temp.ts';

/** Control planes that break, lie, stall and never end: the plan says so, with whatever else is known. */

async function fleetOf(plane: Pick<BadServer, 'url'>) {
  const environment = { CONTROL_PLANE_URL: plane.url, CONTROL_PLANE_SECRET: PLANE_SECRET };
  const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, environment });
  await enrolled(fleet, 'a');
  return fleet;
}

async function planFrom(plane: Pick<BadServer, 'url'>) {
  const fleet = await fleetOf(plane);
  return { fleet, ...(await fleet.root(MAINTENANCE_ROUTES.maintenancePlan, { params: { nodeId: 'a' } })) };
}

const says = (document: unknown): Answer => serveWhole(Buffer.from(JSON.stringify(document)));
const move = { vm: 'vm-1', target_node: 'b' };
const block = { reason: 'no room' };
const SOUND = { vms: [move], blocks: [block] };
const NONSENSE = /makes no sense: /;

const BAD: readonly (readonly [string, Answer, RegExp])[] = [
  ['has no plans', status(404), /^it answered 404: it makes no plans, or does not know this host$/],
  ['refuses', status(401), /^it answered 401$/],
  ['fails', status(503, { 'retry-after': '86400' }), /^it answered 503$/],
  ['sends us elsewhere', status(302, { location: 'http://127.0.0.1:1/' }), /^it answered 302$/],
  ['takes it for an order', status(202, {}, '{}'), /^it answered 202$/],
  ['says nothing', status(200), /^its answer is no JSON$/],
  ['is a page', status(200, { 'content-type': 'text/html' }, '<html>'), /^its answer is no JSON$/],
  ['nests without end', status(200, {}, '['.repeat(400_000)), /^its answer is no JSON$/],
  ['hangs up in the middle', cutAfter(Buffer.from(JSON.stringify(SOUND)), 10), /cannot be reached/],
  ['is null', says(null), NONSENSE],
  ['is a list', says([SOUND]), NONSENSE],
  ['lacks what blocks', says({ vms: [] }), NONSENSE],
  ['lacks a target', says({ ...SOUND, vms: [{ vm: 'vm-1' }] }), NONSENSE],
  ['has a number for a VM', says({ ...SOUND, vms: [{ ...move, vm: 7 }] }), NONSENSE],
  ['has a VM without a name', says({ ...SOUND, vms: [{ ...move, vm: '' }] }), NONSENSE],
  ['has an object for a target', says({ ...SOUND, vms: [{ ...move, target_node: {} }] }), NONSENSE],
  ['has a field of its own', says({ ...SOUND, vms: [{ ...move, traget: 'b' }] }), /vms\/0.* traget/],
  ['reaches for a prototype', status(200, {}, '{"vms":[],"blocks":[],"__proto__":{"a":1}}'), NONSENSE],
  ['has a name that is too long', says({ ...SOUND, vms: [{ ...move, vm: 'v'.repeat(201) }] }), NONSENSE],
  ['has a reason that is too long', says({ ...SOUND, blocks: [{ reason: 'r'.repeat(501) }] }), NONSENSE],
  ['has too many VMs', says({ ...SOUND, vms: vmsOf(1001) }), NONSENSE],
  ['has far too many blocks', says({ vms: [], blocks: Array(150_000).fill(0) }), NONSENSE],
  ['names one VM twice', says({ ...SOUND, vms: [move, { ...move, target_node: 'c' }] }), /one VM is in it twice$/],
  ['moves a VM to where it is', says({ ...SOUND, vms: [{ ...move, target_node: 'a' }] }), /to where it is$/],
  ['steers the terminal by a field', says({ ...SOUND, '\u001b[2J\u009b2J\n': 1 }), /\ufffd\[2J\ufffd2J\ufffd/],
  [
    'is longer than anybody waits for',
    says({ ...SOUND, blocks: Array(1000).fill({ reason: '\u0001'.repeat(490) }) }),
    /sent more than/,
  ],
  ['never ends', endless(), /sent more than the expected \d+ bytes$/],
];

function vmsOf(count: number) {
  return Array.from({ length: count }, (_, i) => ({ vm: `vm-${i}`, target_node: 'b' }));
}

test.each(BAD)('one that %s', async (_what, answer, error) => {
  const plane = await badServer(answer);
  const startMs = performance.now();
  const { fleet, status, json, text } = await planFrom(plane);
  expect([status, json.control_plane_error]).toEqual([200, expect.stringMatching(error)]);
  expect(json).toMatchObject({
    node_id: 'a',
    place: 'free',
    drain_by: 'control-plane',
    control_plane: 'failed',
    message: `The control plane gave no plan: ${json.control_plane_error}`,
    vms: null,
    blocks: null,
    expected_seconds: null,
    past_drains: 0,
  });
  expect(text.length).toBeLessThan(2000);
  expect(text).not.toMatch(/[\p{Cc}]/u);
  expect(performance.now() - startMs).toBeLessThan(8000);
  expect(plane.requests).toHaveLength(1);
  expect(fleet.log.lines.filter(({ event }) => event === 'control_plane_gave_no_plan')).toHaveLength(1);
  await vi.waitFor(() => expect(plane.openSockets()).toBeLessThanOrEqual(1));
});

test('one that nobody is at', async () => {
  const plane = await badServer(silence);
  await plane.stop();
  const { status, json } = await planFrom(plane);
  expect([status, json.control_plane]).toEqual([200, 'failed']);
  expect(json.control_plane_error).toMatch(/ECONNREFUSED/);
});

test('one that says nothing, or a byte a second, is waited for ten seconds', { timeout: 30_000 }, async () => {
  const planes = [await badServer(silence), await badServer(drip(Buffer.from(JSON.stringify(SOUND)), 1, 500))];
  const fleets = await Promise.all(planes.map(fleetOf));
  const startMs = performance.now();
  const asked = fleets.map((fleet) => fleet.root(MAINTENANCE_ROUTES.maintenancePlan, { params: { nodeId: 'a' } }));
  for (const { status, json } of await Promise.all(asked)) {
    expect([status, json.control_plane_error]).toEqual([200, 'no complete answer within 10 s']);
  }
  expect(performance.now() - startMs).toBeLessThan(14_000);
  for (const plane of planes) await vi.waitFor(() => expect(plane.openSockets()).toBe(0));
});

test('as much as it may say comes through whole', async () => {
  const full = { vms: vmsOf(1000), blocks: Array(1000).fill({ vm: 'v'.repeat(200), reason: 'r'.repeat(150) }) };
  expect(JSON.stringify(full).length).toBeLessThan(PLAN_MAX_BYTES);
  const { json } = await planFrom(await badServer(says(full)));
  expect(json).toMatchObject({ control_plane: 'answered', ...full });
});

test('names and reasons become one line each that steers nothing', async () => {
  const vms = [
    { vm: 'vm\u001b]0;owned\u0007', target_node: 'b\u009b31m', reason: 'first\nsecond\u202e' },
    { vm: 'Büro-Server 1', target_node: null, reason: 'パススルー' },
  ];
  const { json } = await planFrom(await badServer(says({ vms, blocks: [{ vm: 'x\r', reason: 'why\u2028' }] })));
  expect(json).toMatchObject({
    control_plane: 'answered',
    vms: [
      { vm: 'vm\ufffd]0;owned\ufffd', target_node: 'b\ufffd31m', reason: 'first\ufffdsecond\ufffd' },
      { vm: 'Büro-Server 1', target_node: null, reason: 'パススルー' },
    ],
    blocks: [{ vm: 'x\ufffd', reason: 'why\ufffd' }],
  });
});

test('who hangs up is not waited for', async () => {
  const plane = await badServer(silence);
  const http = undiciHttp();
  onTestFinished(() => http.close());
  const gone = new AbortController();
  const host = { node_id: 'a', node_uuid: 'u', certificate_fingerprint: null };
  const to = { http, url: plane.url, secret: PLANE_SECRET, clock: fakeClock() };
  const asked = askDrainPlan(to, host, { id: 'plan-1', signal: gone.signal });
  const outcome = expect(asked).rejects.toMatchObject({ code: 'CANCELLED' });
  await vi.waitFor(() => expect(plane.requests).toHaveLength(1));
  gone.abort();
  await outcome;
  await vi.waitFor(() => expect(plane.openSockets()).toBe(0));
});
