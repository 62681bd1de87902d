import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import { MAINTENANCE_ROUTES as R } from '../../src/format/maintenance-routes.ts';
import { fleetBench } from '../support/fleet.ts';
import { callsOf, drainProgram, type LocalVms, localVms } from '../support/local-vms.ts';
import { newMember, openMember, RELEASE, type TestMember, untilGranted } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/** A host without a control plane is emptied by programs of its operator, whose VMs here are real processes. */

vi.setConfig({ testTimeout: 60_000 });

const PROGRAM = 'quantix/limiquantix/drain.d/vms';
const patiently = () => sleep(50);

async function hostWithVms(settings: readonly string[] = []) {
  const member = await openMember({ settings });
  const vms = await localVms(member.root);
  await member.write(PROGRAM, drainProgram(vms), 0o755);
  return { member, vms };
}

const outcomeOf = (member: TestMember, result: 'complete' | 'rolled_back') =>
  member.report.outcome({ id: 'abcdefgh01234567', release: RELEASE, result, at: '2026-11-27T12:00:00Z' });

async function down(member: TestMember): Promise<void> {
  expect(await member.offer.beginReboot()).toEqual({ granted: true });
  await rm(join(member.root, 'run'), { recursive: true, force: true });
}

describe('a host that stands alone', () => {
  test('is emptied before it reboots, and may carry VMs again when its update is over', async () => {
    const { member, vms } = await hostWithVms();
    await vms.run('vm-1');
    await vms.run('vm-2');
    const first = await member.offer.mayReboot(RELEASE);
    expect(first).toMatchObject({ granted: false, reason: 'this host is being emptied: 0 of 2 VMs are gone' });
    expect(member.duties.waitsFor()).toBe('this host is being emptied: 0 of 2 VMs are gone');
    expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
    expect([await vms.alive(), member.duties.waitsFor()]).toEqual([[], null]);
    await down(member);
    const after = await openMember({ root: member.root });
    await outcomeOf(after, 'complete');
    await after.duties.tick();
    expect(await callsOf(member.root)).toEqual(['drain', 'undrain']);
    expect(await loadRecord(after.files)).toBeNull();
  });

  test('a VM that came back just before the reboot stops it, and is moved away as well', async () => {
    const { member, vms } = await hostWithVms();
    await untilGranted(member, 100, patiently);
    await vms.run('vm-3');
    expect(await member.offer.beginReboot()).toMatchObject({ granted: false, reason: '1 VMs are on this host again' });
    expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
    expect(await vms.alive()).toEqual([]);
  });

  test('a host that could not be emptied is not rebooted; it says why, and tries again after a pause', async () => {
    const { member, vms } = await hostWithVms();
    await vms.run('vm-1');
    await member.write(PROGRAM, drainProgram(vms, 'echo "$vm: no host has room" >&2; exit 4'), 0o755);
    const { grant, reasons } = await untilGranted(member, 3, patiently);
    expect(grant.granted).toBe(false);
    expect(reasons.at(-1)).toContain('exit code 4: vm-1: no host has room');
    expect(await vms.alive()).toEqual(['vm-1']);
    await member.write(PROGRAM, drainProgram(vms), 0o755);
    expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
  });

  test('a program that only says that it is done is not believed', async () => {
    const { member, vms } = await hostWithVms();
    await vms.run('vm-1');
    await member.write(PROGRAM, drainProgram(vms, ':'), 0o755);
    expect((await untilGranted(member, 20, patiently)).grant).toMatchObject({ granted: false });
    expect(await vms.alive()).toEqual(['vm-1']);
  });

  test('a program that hangs is cut off, and the host is not rebooted', async () => {
    const { member, vms } = await hostWithVms(['drain_timeout: 1s']);
    await vms.run('vm-1');
    await member.write(PROGRAM, drainProgram(vms, 'sleep 600'), 0o755);
    const { reasons } = await untilGranted(member, 30, () => sleep(100));
    expect(reasons.at(-1)).toContain('did not become empty within the 1 s of drain_timeout: vm-1 is still here');
    expect([await vms.alive(), await callsOf(member.root)]).toEqual([['vm-1'], ['drain', 'undrain']]);
  });

  test('where nobody can tell which VMs run here, it is not rebooted', async () => {
    const { member } = await hostWithVms();
    await member.write(PROGRAM, '#!/bin/sh\necho "the hypervisor does not answer" >&2\nexit 1\n', 0o755);
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: 'vms list: exit code 1: the hypervisor does not answer; run it by hand as root; it is in drain.d',
    });
  });

  test('a program that others may write to is not run', async () => {
    const { member, vms } = await hostWithVms();
    await vms.run('vm-1');
    await chmod(join(member.root, PROGRAM), 0o777);
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringContaining('others than root may write to it'),
    });
    expect(await vms.alive()).toEqual(['vm-1']);
  });

  test('an agent that was started anew in the middle begins again', async () => {
    const { member, vms } = await hostWithVms();
    await vms.run('vm-1');
    await member.offer.mayReboot(RELEASE);
    const again = await openMember({ root: member.root });
    expect((await untilGranted(again, 100, patiently)).grant).toEqual({ granted: true });
    expect(await vms.alive()).toEqual([]);
    await vi.waitFor(async () => expect(await callsOf(member.root)).toEqual(['drain', 'drain']), { timeout: 10_000 });
  });

  test('a drain that is not wanted any more is stopped before VMs may come back', async () => {
    const { member, vms } = await hostWithVms();
    await vms.run('vm-1');
    await member.write(PROGRAM, drainProgram(vms, 'sleep 600; echo moved >>../calls'), 0o755);
    await member.offer.mayReboot(RELEASE);
    await vi.waitFor(async () => expect(await callsOf(member.root)).toEqual(['drain']), { timeout: 10_000 });
    await member.write('run/quantix/inhibit/backup', 'a backup is being made');
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
    expect(await callsOf(member.root)).toEqual(['drain', 'undrain']);
    expect([await vms.alive(), await loadRecord(member.files)]).toEqual([['vm-1'], null]);
  });

  test('an update that failed lets the VMs come back: the old image is well', async () => {
    const { member } = await hostWithVms();
    await untilGranted(member, 100, patiently);
    await down(member);
    await outcomeOf(member, 'rolled_back');
    await member.duties.tick();
    expect(await callsOf(member.root)).toEqual(['drain', 'undrain']);
  });
});

describe('a host of a fleet without a control plane', () => {
  const alone = async () => fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, runs: true });

  async function memberWithVms(): Promise<{
    member: TestMember;
    vms: LocalVms;
    fleet: Awaited<ReturnType<typeof alone>>;
  }> {
    const fleet = await alone();
    const member = await newMember(fleet, 'qhci-01');
    const vms = await localVms(member.root);
    await member.write(PROGRAM, drainProgram(vms), 0o755);
    await vms.run('vm-1');
    return { member, vms, fleet };
  }
  const statusOf = async (fleet: Awaited<ReturnType<typeof alone>>) =>
    (await fleet.root(R.maintenanceStatus, { params: { nodeId: 'qhci-01' } })).json;

  test('empties itself inside its place, and tells the fleet how far it is', async () => {
    const { member, vms, fleet } = await memberWithVms();
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
    expect(await statusOf(fleet)).toMatchObject({ state: 'draining', total_vms: 1, remaining_vms: ['vm-1'] });
    expect((await untilGranted(member, 100, patiently)).grant).toEqual({ granted: true });
    expect(await vms.alive()).toEqual([]);
    expect(await statusOf(fleet)).toMatchObject({ state: 'ready', total_vms: 1, migrated_vms: 1 });
    await down(member);
    expect(await statusOf(fleet)).toMatchObject({ state: 'rebooting' });
  });

  test('the VM that cannot leave is shown to the operators, with the reason', async () => {
    const { member, vms, fleet } = await memberWithVms();
    await member.write(PROGRAM, drainProgram(vms, 'echo "its disk is local" >&2; exit 1'), 0o755);
    await untilGranted(member, 3, patiently);
    expect(await statusOf(fleet)).toMatchObject({
      state: 'draining',
      failed_vms: [{ vm: 'vm-1', reason: 'vms drain: exit code 1: its disk is local' }],
    });
  });

  test('where nobody empties it, it waits, and is told what to do; carries_vms: false says that nothing has to go', async () => {
    const fleet = await alone();
    const member = await newMember(fleet, 'qhci-01');
    expect(await member.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringContaining('put a program into drain.d, or set updates.carries_vms to false'),
    });
    // Meanwhile the place is for others.
    const status = async () => (await fleet.root(R.maintenanceStatus, { params: { nodeId: 'qhci-01' } })).json;
    expect(await status()).toMatchObject({ state: 'none', holds_place: false });
    const sure = await openMember({ root: member.root, settings: ['carries_vms: false'] });
    expect(await sure.offer.mayReboot(RELEASE)).toEqual({ granted: true });
  });
});
