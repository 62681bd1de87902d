import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { AUDIT_FOLDER } from '../../src/agent/audit.ts';
import { loadPause } from '../../src/agent/maintenance/pause.ts';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import { MAINTENANCE_ROUTES as R } from '../../src/format/maintenance-routes.ts';
import { steppedClock } from '../support/agent-host.ts';
import { fleetBench } from '../support/fleet.ts';
import { callsOf, drainProgram, localVms } from '../support/local-vms.ts';
import { lockServer } from '../support/lock-server.ts';
import { newMember, openMember, RELEASE, type TestMember } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/** A host that cannot become empty gives its place to others, and says so. */

vi.setConfig({ testTimeout: 60_000 });

const PROGRAM = 'quantix/limiquantix/drain.d/vms';
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const STUCK = 'echo "$vm: a device is passed through" >&2; exit 1';

async function stuckHost(settings: readonly string[], move = STUCK) {
  const host = await openMember({ settings: ['drain_timeout: 10m', ...settings] });
  const vms = await localVms(host.root);
  await vms.run('gpu-1');
  await host.write(PROGRAM, drainProgram(vms, move), 0o755);
  return {
    host,
    vms,
    again: () => openMember({ root: host.root, clock: host.clock, settings: ['drain_timeout: 10m', ...settings] }),
  };
}

const locked = (url: string) => [`fleetlock_url: ${url}`];

/** Asks as the daemon does, until the answer is of a pause. */
async function untilGivenUp(host: TestMember): Promise<string> {
  for (let i = 0; i < 100; i++) {
    const grant = await host.offer.mayReboot(RELEASE);
    if (grant.granted) throw new Error('granted');
    if (grant.reason.includes('tried again at')) return grant.reason;
    host.clock.advance(15_000);
  }
  throw new Error('it was never given up');
}

async function eventsOf({ files }: TestMember): Promise<string> {
  const names = await files.list(AUDIT_FOLDER);
  const texts = names.map(async (name) =>
    new TextDecoder().decode((await files.read(`${AUDIT_FOLDER}/${name}`, 1 << 20)) ?? undefined),
  );
  return (await Promise.all(texts)).join('');
}

describe('a drain that cannot succeed', () => {
  test('ends after its time: VMs are let back, the place is free, and the operator is told which VM and when', async () => {
    const { url, holders } = await lockServer();
    const { host } = await stuckHost(locked(url));
    const began = host.clock.nowMs();
    const reason = await untilGivenUp(host);
    expect(holders.size).toBe(0);
    expect(host.clock.nowMs() - began).toBeLessThan(11 * 60_000);
    expect(await loadRecord(host.files)).toBeNull();
    expect((await callsOf(host.root)).at(-1)).toBe('undrain');
    expect(reason).toContain('gpu-1 is still here');
    expect(reason).toContain(new Date(host.clock.nowMs() + HOUR_MS).toISOString());
    expect(host.duties.waitsFor()).toContain('gpu-1 is still here');
    expect(host.log.lines.map(({ event }) => event)).toContain('drain_given_up');
  });

  test('ends also where nobody asks any more, and where the program hangs or cannot say which VMs run here', async () => {
    const { url, holders } = await lockServer();
    const { host, vms } = await stuckHost(locked(url), 'sleep 600');
    await host.offer.mayReboot(RELEASE);
    host.clock.advance(11 * 60_000);
    await host.duties.tick();
    expect(holders.size).toBe(0);
    expect(await loadPause(host)).toMatchObject({ failures: 1, pause_ms: HOUR_MS });
    await host.duties.tryNow();
    await host.write(PROGRAM, drainProgram(vms, ':'), 0o755);
    await host.offer.mayReboot(RELEASE);
    await host.write(PROGRAM, '#!/bin/sh\n[ "$1" = undrain ] || exit 3\n', 0o755);
    expect(await untilGivenUp(host)).toContain('list: exit code 3');
    expect(holders.size).toBe(0);
  });

  test('the next try waits, longer each time and up to a day, through restarts of the agent', async () => {
    const { url, asked } = await lockServer();
    const { host, again } = await stuckHost(locked(url));
    for (const hours of [1, 2, 4, 8, 16, 24, 24]) {
      const agent = await again();
      await untilGivenUp(agent);
      const before = asked.length;
      host.clock.advance(hours * HOUR_MS - 60_000);
      expect(await (await again()).offer.mayReboot(RELEASE)).toMatchObject({ granted: false, retryAfterMs: 60_000 });
      expect(asked).toHaveLength(before);
      host.clock.advance(60_000);
    }
  });

  test('an order of the operator tries at once; a drain that succeeds ends the counting', async () => {
    const { url, holders } = await lockServer();
    const { host, vms } = await stuckHost(locked(url));
    await untilGivenUp(host);
    await host.duties.tryNow();
    expect(await host.offer.mayReboot(RELEASE)).toMatchObject({ reason: expect.stringContaining('being emptied') });
    expect(holders.size).toBe(1);
    await untilGivenUp(host);
    expect(await loadPause(host)).toMatchObject({ failures: 2, pause_ms: 2 * HOUR_MS });
    await host.write(PROGRAM, drainProgram(vms), 0o755);
    await host.duties.tryNow();
    await vi.waitFor(async () => expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true }), {
      timeout: 20_000,
    });
    expect(await host.offer.beginReboot()).toEqual({ granted: true });
    expect(await loadPause(host)).toBeNull();
  });

  test('whose end nobody heard is told again, and counts once', async () => {
    const { url, holders } = await lockServer();
    const { host } = await stuckHost(locked(url));
    await host.offer.mayReboot(RELEASE);
    const dead = vi.spyOn(host.http, 'post').mockRejectedValue(new Error('the line is dead'));
    host.clock.advance(11 * 60_000);
    for (let i = 0; i < 4; i++) {
      await host.duties.tick().catch(() => undefined);
      expect(await host.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
      host.clock.advance(60_000);
    }
    expect([holders.size, (await loadPause(host))?.failures]).toEqual([1, 1]);
    dead.mockRestore();
    await host.offer.mayReboot(RELEASE);
    expect([holders.size, await loadRecord(host.files)]).toEqual([0, null]);
  });
});

describe('a clock that was 20 days ahead and was put right', () => {
  test('makes neither the pause nor the drain 20 days long', async () => {
    const { url, holders } = await lockServer();
    const { host } = await stuckHost(locked(url));
    host.clock.advance(20 * DAY_MS);
    await untilGivenUp(host);
    const right = steppedClock(new Date(host.clock.nowMs() - 20 * DAY_MS).toISOString());
    const settings = ['drain_timeout: 10m', ...locked(url)];
    const restarted = () => openMember({ root: host.root, clock: right, settings });
    expect(await (await restarted()).offer.mayReboot(RELEASE)).toMatchObject({ granted: false, retryAfterMs: HOUR_MS });
    right.advance(HOUR_MS);
    const agent = await restarted();
    expect(await agent.offer.mayReboot(RELEASE)).toMatchObject({ reason: expect.stringContaining('being emptied') });
    expect(holders.size).toBe(1);
    // The other way round: a place that was got by the wrong clock.
    const record = await loadRecord(agent.files);
    const since = new Date(right.nowMs() + 20 * DAY_MS).toISOString();
    await agent.write('quantix/limiquantix/maintenance.json', JSON.stringify({ ...record, since }));
    await (await restarted()).offer.mayReboot(RELEASE);
    right.advance(11 * 60_000);
    await (await restarted()).duties.tick();
    expect(holders.size).toBe(0);
  });
});

test('a reboot that never comes gives the place back', async () => {
  const { url, holders } = await lockServer();
  const host = await openMember({ settings: [...locked(url), 'carries_vms: false'] });
  expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
  expect(await host.offer.beginReboot()).toEqual({ granted: true });
  host.clock.advance(20 * 60_000);
  const again = await openMember({
    root: host.root,
    clock: host.clock,
    settings: [...locked(url), 'carries_vms: false'],
  });
  // Tried again in between, it has no more time than before.
  expect(await again.offer.mayReboot(RELEASE)).toEqual({ granted: true });
  expect(await again.offer.beginReboot()).toEqual({ granted: true });
  again.clock.advance(11 * 60_000);
  await again.duties.tick();
  expect(holders.size).toBe(0);
  expect(await again.offer.mayReboot(RELEASE)).toMatchObject({
    reason: expect.stringContaining('this host is still up'),
  });
});

describe('settings that no longer name the lock server', () => {
  test.each([
    ['none', []],
    ['another group', ['fleetlock_group: rack-2']],
  ])('(%s): the lock is given back where it was taken', async (_what, change) => {
    const { url, holders } = await lockServer();
    const host = await openMember({ settings: [...locked(url), 'carries_vms: false'] });
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    const settings = change.length === 0 ? ['carries_vms: false'] : [...locked(url), ...change, 'carries_vms: false'];
    const after = await openMember({ root: host.root, clock: host.clock, settings });
    expect(await after.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect([...holders.keys()]).toEqual(change.length === 0 ? [] : ['rack-2']);
  });

  test('and one that was taken down does not keep the host from rebooting for ever; the audit log names it', async () => {
    const { url, close } = await lockServer();
    const host = await openMember({ settings: [...locked(url), 'carries_vms: false'] });
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    await close();
    const after = await openMember({ root: host.root, clock: host.clock, settings: ['carries_vms: false'] });
    const grants: boolean[] = [];
    for (let i = 0; i < 20; i++) grants.push((await after.offer.mayReboot(RELEASE)).granted);
    expect([grants[0], grants.at(-1)]).toEqual([false, true]);
    expect(await eventsOf(after)).toContain('place_not_given_back');
  });
});

describe('in a fleet', () => {
  const alone = async () => fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, runs: true });
  const statusOf = async (fleet: Awaited<ReturnType<typeof alone>>) =>
    (await fleet.root(R.maintenanceStatus, { params: { nodeId: 'qhci-01' } })).json;

  test('the place of a host that cannot empty itself is free for others', async () => {
    const fleet = await alone();
    const host = await newMember(fleet, 'qhci-01', {}, { settings: ['drain_timeout: 10m'] });
    const vms = await localVms(host.root);
    await vms.run('gpu-1');
    await host.write(PROGRAM, drainProgram(vms, STUCK), 0o755);
    expect(await untilGivenUp(host)).toContain('gpu-1 is still here');
    expect(await statusOf(fleet)).toMatchObject({ state: 'cancelled', holds_place: false });
    await host.duties.tryNow();
    await host.offer.mayReboot(RELEASE);
    expect(await statusOf(fleet)).toMatchObject({ state: 'draining', holds_place: true });
  });

  test('a drain that the server gave up is not asked for again at once, and longer each time', async () => {
    const fleet = await alone();
    const host = await newMember(fleet, 'qhci-01');
    const vms = await localVms(host.root);
    await vms.run('gpu-1');
    await host.write(PROGRAM, drainProgram(vms, STUCK), 0o755);
    for (const hours of [1, 2]) {
      await host.offer.mayReboot(RELEASE);
      fleet.clock.aheadMs += 3 * HOUR_MS;
      await vi.waitFor(
        async () => expect(await statusOf(fleet)).toMatchObject({ state: 'failed', holds_place: false }),
        { timeout: 20_000 },
      );
      expect(await host.offer.mayReboot(RELEASE)).toMatchObject({ granted: false, retryAfterMs: hours * HOUR_MS });
      expect(await loadRecord(host.files)).toBeNull();
      host.clock.advance(hours * HOUR_MS);
    }
  });

  test('a host that was granted its reboot and never goes down gives its place back', async () => {
    const fleet = await alone();
    const host = await newMember(fleet, 'qhci-01', { carries_vms: false });
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    await host.offer.beginReboot();
    host.clock.advance(31 * 60_000);
    await host.duties.tick();
    expect(await statusOf(fleet)).toMatchObject({ state: 'failed', holds_place: false });
    await rm(join(host.root, 'run'), { recursive: true, force: true });
    await host.duties.tick();
    expect(await loadRecord(host.files)).toBeNull();
  });
});
