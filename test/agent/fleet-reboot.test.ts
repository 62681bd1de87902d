import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { enrol } from '../../src/agent/fleet/enrol.ts';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import { MAINTENANCE_ROUTES as R } from '../../src/format/maintenance-routes.ts';
import type { Outcome } from '../../src/ports/offer.ts';
import { startControlPlane } from '../support/control-plane.ts';
import { CONTROL_PLANE_TOKEN, type FleetBench, fleetBench } from '../support/fleet.ts';
import { callsOf, drainProgram, localVms } from '../support/local-vms.ts';
import {
  JOURNAL,
  joinString,
  newMember,
  openMember,
  RELEASE,
  type TestMember,
  untilGranted,
} from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/** A host of a fleet waits for its turn, is emptied, reboots inside its grant, and says how it went. */

vi.setConfig({ testTimeout: 60_000 });

const SECRET = 'control-plane-secret-of-more-than-32-bytes';

async function bench(environment: Record<string, string> = {}): Promise<FleetBench> {
  return fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, environment, runs: true });
}

/** A fleet whose control plane runs VMs on these hosts. */
async function fleetWithVms(hosts: Readonly<Record<string, readonly string[]>>, more: Record<string, string> = {}) {
  const reach: { fleet?: FleetBench } = {};
  const plane = await startControlPlane({
    secret: SECRET,
    hosts: [...Object.keys(hosts), 'elsewhere'].map((name) => ({ name, room: 100 })),
    report: async (progress) => reach.fleet?.call({ token: CONTROL_PLANE_TOKEN }, R.drainProgress, { body: progress }),
  });
  for (const [host, vms] of Object.entries(hosts)) for (const vm of vms) await plane.run(host, vm);
  reach.fleet = await bench({ CONTROL_PLANE_URL: plane.url, CONTROL_PLANE_SECRET: SECRET, ...more });
  return { fleet: reach.fleet, plane };
}

const stateOf = async (fleet: FleetBench, host: string): Promise<string> => String((await statusOf(fleet, host)).state);

const statusOf = async (fleet: FleetBench, host: string) =>
  (await fleet.root(R.maintenanceStatus, { params: { nodeId: host } })).json;

/** The machine goes down and comes up: its agent is a new one, and /run is empty. */
async function rebooted({ root, clock }: TestMember): Promise<TestMember> {
  await rm(join(root, 'run'), { recursive: true, force: true });
  return openMember({ root, clock });
}

const outcome = (result: Outcome['result'], more: Partial<Outcome> = {}): Outcome => ({
  id: 'abcdefgh01234567',
  release: RELEASE,
  result,
  at: '2026-11-27T12:00:00Z',
  ...more,
});

const patiently = () => sleep(50);

describe('with a control plane', () => {
  test('the host is emptied, reboots, and carries VMs again once it has said that it is well', async () => {
    const { fleet, plane } = await fleetWithVms({ 'qhci-01': ['vm-1', 'vm-2'] });
    const member = await newMember(fleet, 'qhci-01');
    const { grant, reasons } = await untilGranted(member, 100, patiently);
    expect(grant).toEqual({ granted: true });
    expect(reasons[0]).toContain('Draining VMs');
    expect([plane.on('qhci-01'), plane.on('elsewhere')]).toEqual([[], ['vm-1', 'vm-2']]);
    expect(await stateOf(fleet, 'qhci-01')).toBe('ready');
    expect(await member.offer.beginReboot()).toEqual({ granted: true });
    expect(await stateOf(fleet, 'qhci-01')).toBe('rebooting');

    const after = await rebooted(member);
    await after.write('quantix/ab-update-state.json', JSON.stringify(JOURNAL));
    await after.duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('verifying');
    expect(plane.isCordoned('qhci-01')).toBe(true);
    await after.report.outcome(outcome('complete'));
    await after.duties.tick();
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({ state: 'completed', holds_place: false });
    await vi.waitFor(() => expect(plane.isCordoned('qhci-01')).toBe(false), { timeout: 10_000 });
    expect(await loadRecord(after.files)).toBeNull();
  });

  test('one at a time: the second waits without holding anything, and goes when the first is back', async () => {
    const { fleet } = await fleetWithVms({ 'qhci-01': ['vm-1'], 'qhci-02': ['vm-2'] });
    const [first, second] = [await newMember(fleet, 'qhci-01'), await newMember(fleet, 'qhci-02')];
    expect((await untilGranted(first, 100, patiently)).grant).toEqual({ granted: true });
    const waits = await untilGranted(second, 3);
    expect(waits.grant).toMatchObject({ granted: false, reason: expect.stringContaining('waiting') });
    expect(await statusOf(fleet, 'qhci-02')).toMatchObject({ state: 'requested', holds_place: false });
    await first.offer.beginReboot();
    await first.report.outcome(outcome('complete'));
    await (await rebooted(first)).duties.tick();
    expect((await untilGranted(second, 100, patiently)).grant).toEqual({ granted: true });
  });

  test('an agent that is started anew at any point goes on where it was', async () => {
    const { fleet } = await fleetWithVms({ 'qhci-01': ['vm-1'] });
    const { root, clock } = await newMember(fleet, 'qhci-01');
    const again = () => openMember({ root, clock });
    await vi.waitFor(async () => expect(await (await again()).offer.mayReboot(RELEASE)).toEqual({ granted: true }), {
      timeout: 20_000,
    });
    expect(await (await again()).offer.beginReboot()).toEqual({ granted: true });
    // It died before the machine went down.
    expect(await (await again()).offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(await (await again()).offer.beginReboot()).toEqual({ granted: true });
    const after = await rebooted(await again());
    await after.report.outcome(outcome('complete'));
    await (await again()).duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('completed');
    const { json } = await fleet.root(R.listMaintenance);
    expect(json.count).toBe(0);
  });

  test('a grant that ran out is noticed just before the reboot, and the host is emptied once more', async () => {
    const { fleet, plane } = await fleetWithVms({ 'qhci-01': ['vm-1'] }, { GRANT_TTL: '2s' });
    const member = await newMember(fleet, 'qhci-01');
    await untilGranted(member, 100, patiently);
    await plane.run('qhci-01', 'vm-3');
    await sleep(2_500);
    expect(await member.offer.beginReboot()).toMatchObject({ granted: false });
    expect((await loadRecord(member.files))?.is_rebooting).toBeUndefined();
    expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
    expect(plane.on('qhci-01')).toEqual([]);
    expect(await member.offer.beginReboot()).toEqual({ granted: true });
  });

  test('one that an operator called off is not begun, and not asked for again at once', async () => {
    const { fleet } = await fleetWithVms({ 'qhci-01': [] });
    const member = await newMember(fleet, 'qhci-01');
    await untilGranted(member, 100, patiently);
    await fleet.root(R.cancelMaintenance, { params: { nodeId: 'qhci-01' } });
    expect(await member.offer.beginReboot()).toMatchObject({ granted: false });
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      reason: expect.stringContaining('Maintenance cancelled; it is asked for again in 15 min'),
    });
    expect(await stateOf(fleet, 'qhci-01')).toBe('cancelled');
    member.clock.advance(16 * 60_000);
    expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
  });

  test('an update that was taken back before its reboot gives its place back', async () => {
    const { fleet } = await fleetWithVms({ 'qhci-01': [] });
    const member = await newMember(fleet, 'qhci-01');
    await untilGranted(member, 100, patiently);
    await member.report.outcome(outcome('failed', { code: 'SUPERSEDED', detail: 'another release took its place' }));
    await member.duties.tick();
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({ state: 'cancelled', holds_place: false });
  });

  test('a host that failed stays visible and keeps its place, until somebody has looked after it', async () => {
    const { fleet, plane } = await fleetWithVms({ 'qhci-01': ['vm-1'] });
    const member = await newMember(fleet, 'qhci-01');
    await untilGranted(member, 100, patiently);
    await member.offer.beginReboot();
    const after = await rebooted(member);
    await after.report.outcome(outcome('rolled_back', { code: 'UNHEALTHY', detail: 'the console did not start' }));
    await after.duties.tick();
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({
      state: 'failed',
      holds_place: true,
      error_message: 'rolled back: UNHEALTHY: the console did not start',
    });
    expect(plane.isCordoned('qhci-01')).toBe(true);
    await after.duties.tick();
    expect(await loadRecord(after.files)).toMatchObject({ has_failed: true });
    await fleet.root(R.cancelMaintenance, { params: { nodeId: 'qhci-01' } });
    await after.duties.tick();
    expect(await loadRecord(after.files)).toBeNull();
    await vi.waitFor(() => expect(plane.isCordoned('qhci-01')).toBe(false), { timeout: 10_000 });
  });
});

test('after a failure the next release goes its own way, and what became of the first is over', async () => {
  const { fleet } = await fleetWithVms({ 'qhci-01': ['vm-1'] });
  const member = await newMember(fleet, 'qhci-01');
  await untilGranted(member, 100, patiently);
  await member.offer.beginReboot();
  const failed = await rebooted(member);
  await failed.report.outcome(outcome('failed'));
  await failed.duties.tick();
  expect(await stateOf(fleet, 'qhci-01')).toBe('failed');
  failed.clock.advance(16 * 60_000);
  const next = { ...RELEASE, version: '1.2.0' };
  const { grant } = await untilGranted(failed, 100, patiently, next);
  expect(grant).toEqual({ granted: true });
  const record = await loadRecord(failed.files);
  expect([record?.target_version, record?.has_failed, record?.is_rebooting]).toEqual(['1.2.0', undefined, undefined]);
  // Nothing of the boot before counts for this one.
  await failed.duties.tick();
  expect(await stateOf(fleet, 'qhci-01')).toBe('ready');
  expect(await failed.offer.beginReboot()).toEqual({ granted: true });
  const after = await rebooted(failed);
  await after.report.outcome(outcome('complete', { release: next }));
  await after.duties.tick();
  expect(await statusOf(fleet, 'qhci-01')).toMatchObject({
    state: 'completed',
    holds_place: false,
    target_version: '1.2.0',
  });
});

test('a host that joins a fleet while it empties itself asks that fleet from then on', async () => {
  const fleet = await bench();
  const member = await openMember();
  const vms = await localVms(member.root);
  await member.write('quantix/limiquantix/drain.d/vms', drainProgram(vms), 0o755);
  await untilGranted(member, 100, patiently);
  expect(await loadRecord(member.files)).toMatchObject({ by: 'nobody', is_drained: true });
  await enrol(member, await joinString(fleet, 'qhci-01'), {});
  expect(await member.offer.beginReboot()).toMatchObject({ granted: false });
  expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
  expect(await stateOf(fleet, 'qhci-01')).toBe('ready');
  expect(await member.offer.beginReboot()).toEqual({ granted: true });
  expect(await callsOf(member.root)).toEqual(['drain', 'undrain', 'drain']);
});

describe('the network and the server', () => {
  test('no answer is a no, and what was not heard is told again', async () => {
    const fleet = await bench();
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    expect((await untilGranted(member)).grant).toEqual({ granted: true });
    await member.offer.beginReboot();
    const dead = await openMember({ root: member.root, clock: member.clock });
    const answer = vi.spyOn(dead.http, 'get').mockRejectedValue(new Error('the line is dead'));
    const post = vi.spyOn(dead.http, 'post').mockRejectedValue(new Error('the line is dead'));
    await dead.report.outcome(outcome('complete'));
    await dead.duties.tick();
    expect(await dead.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
    expect(await stateOf(fleet, 'qhci-01')).toBe('rebooting');
    answer.mockRestore();
    post.mockRestore();
    // A server that is back is not asked by everybody at once.
    await dead.duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('rebooting');
    dead.clock.advance(15_000);
    await dead.duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('completed');
    expect(await dead.files.list('/quantix/limiquantix/reports')).toEqual([]);
  });

  test('an outcome that was heard although its answer was lost changes nothing when it comes again', async () => {
    const fleet = await bench();
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    await untilGranted(member);
    await member.offer.beginReboot();
    await member.report.outcome(outcome('complete'));
    const send = member.http.post;
    const lost = vi.spyOn(member.http, 'post').mockImplementation(async (...sent) => {
      await send(...sent);
      throw new Error('the line is dead');
    });
    await member.duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('completed');
    expect(await loadRecord(member.files)).not.toBeNull();
    lost.mockRestore();
    member.clock.advance(15_000);
    await member.duties.tick();
    expect(await loadRecord(member.files)).toBeNull();
    const trail = await fleet.store.db
      .selectFrom('audit')
      .select('event')
      .where('event', 'like', '%completed')
      .execute();
    expect(trail).toHaveLength(1);
  });
});

describe('what is asked for', () => {
  test('a bare reboot is granted like any other, and is over once the host is up', async () => {
    const fleet = await bench();
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    expect(await member.offer.mayReboot(null)).toEqual({ granted: true });
    expect(await member.offer.beginReboot()).toEqual({ granted: true });
    await member.duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('rebooting');
    await (await rebooted(member)).duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('completed');
  });

  test('components need no place, and the fleet hears how they went', async () => {
    const fleet = await bench();
    const member = await newMember(fleet, 'qhci-01');
    expect(await member.offer.mayApply(RELEASE, false)).toEqual({ granted: true });
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({
      state: 'ready',
      holds_place: false,
      update_type: 'component',
    });
    await member.report.outcome(outcome('complete'));
    await member.duties.tick();
    expect(await stateOf(fleet, 'qhci-01')).toBe('completed');
  });

  test('it is given back when the window closes, when it is inhibited, and when nobody asks any more', async () => {
    const fleet = await bench();
    const member = await newMember(fleet, 'qhci-01', { carries_vms: false });
    await member.offer.mayReboot(RELEASE);
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({ state: 'ready', holds_place: true });
    await member.write('run/quantix/inhibit/backup', 'a backup is being made');
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({ state: 'cancelled', holds_place: false });
    await rm(join(member.root, 'run/quantix/inhibit/backup'));

    member.clock.advance(16 * 60_000);
    expect((await untilGranted(member)).grant).toEqual({ granted: true });
    member.clock.advance(31 * 60_000);
    await member.duties.tick();
    expect(await statusOf(fleet, 'qhci-01')).toMatchObject({ state: 'cancelled', holds_place: false });
  });
});
