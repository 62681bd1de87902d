import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { showIdentity } from '../../src/agent/fleet/binding.ts';
import { loadMembership } from '../../src/agent/fleet/membership.ts';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import { NODE_ROUTES } from '../../src/format/fleet-routes.ts';
import { MAINTENANCE_ROUTES as R } from '../../src/format/maintenance-routes.ts';
import { grubBoot } from '../../src/system/grub.ts';
import { hostProcess } from '../../src/system/process.ts';
import { enrolled, type FleetBench, fleetBench, trailOf } from '../support/fleet.ts';
import { newMember, openMember, RELEASE, type TestMember } from '../support/member.ts';
import { onBothEngines } from '../support/stores.ts';
import { temporaryFolder } from '../support/temp.ts';

/** Two machines with one key, and a host that only restarted. Nothing of their hardware can be read, so only the server can tell. */

vi.setConfig({ testTimeout: 60_000 });

/** The same disk in another machine, at this moment. */
async function copyOf({ root, clock }: TestMember): Promise<TestMember> {
  const copy = join(await temporaryFolder(), 'host');
  await cp(root, copy, { recursive: true });
  await rm(join(copy, 'run'), { recursive: true, force: true });
  return openMember({ root: copy, clock });
}

/** The machine goes down and comes up. */
async function rebooted({ root, clock }: TestMember): Promise<TestMember> {
  await rm(join(root, 'run'), { recursive: true, force: true });
  return openMember({ root, clock });
}

const outcome = (result: 'complete' | 'rolled_back') => ({
  id: 'abcdefgh01234567',
  release: RELEASE,
  result,
  at: '2026-11-27T12:00:00Z',
});

const status = async (fleet: FleetBench) =>
  (await fleet.root(R.maintenanceStatus, { params: { nodeId: 'qhci-01' } })).json;

const SHARED = { granted: false, reason: expect.stringContaining('two machines speak as qhci-01') };

const bootOf = async (member: TestMember): Promise<string> =>
  (await showIdentity({ ...member, boot: grubBoot(member.root, hostProcess()) })).boot;

onBothEngines('two machines with one identity', (freshUrl) => {
  const start = async (more: object = { carries_vms: false }) => {
    const fleet = await fleetBench({ url: await freshUrl() });
    return { fleet, one: await newMember(fleet, 'qhci-01', more) };
  };
  const resolve = (fleet: FleetBench, body: object) =>
    fleet.root(NODE_ROUTES.resolveNode, { params: { node: 'qhci-01' }, body });

  test('that ask in turn reboot neither with the grant of the other, and everybody is told', async () => {
    const { fleet, one } = await start();
    const two = await copyOf(one);
    expect(await one.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    const first = (await loadRecord(one.files))?.fencing_token;
    expect(await two.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect((await loadRecord(two.files))?.fencing_token).not.toBe(first);
    expect(await one.offer.beginReboot()).toMatchObject(SHARED);
    expect(await two.offer.beginReboot()).toMatchObject(SHARED);
    expect(await one.offer.mayReboot(RELEASE)).toMatchObject(SHARED);
    expect(await two.offer.mayApply(RELEASE, false)).toMatchObject(SHARED);
    expect(await status(fleet)).toMatchObject({
      state: 'ready',
      proceed_now: false,
      holds_place: true,
      conflict: expect.stringContaining('two machines speak as qhci-01'),
    });
    const { json } = await fleet.root(NODE_ROUTES.nodes);
    const seen = [await bootOf(one), await bootOf(two)].sort();
    expect(json).toMatchObject([{ node_id: 'qhci-01', conflict: { since: expect.any(String) } }]);
    expect(
      (json as unknown as { conflict: { boots: { boot: string }[] } }[])[0]?.conflict.boots.map((b) => b.boot).sort(),
    ).toEqual(seen);
    const id = (await loadMembership(one.files))?.id;
    expect(await trailOf(fleet, `node:${id}`)).toContain('identity_shared by node qhci-01');
    expect((await fleet.root(R.listMaintenance)).json).toMatchObject({ nodes: [{ conflict: expect.any(String) }] });
  });

  test('of which one reboots already: the other is refused as soon as it asks, and the first is believed no more', async () => {
    const { fleet, one } = await start();
    await one.offer.mayReboot(RELEASE);
    const two = await copyOf(one);
    expect(await one.offer.beginReboot()).toEqual({ granted: true });
    expect(await two.offer.beginReboot()).toMatchObject(SHARED);
    expect(await two.offer.mayReboot(RELEASE)).toMatchObject(SHARED);
    const after = await rebooted(one);
    await after.report.outcome(outcome('complete'));
    await after.duties.tick();
    expect(await status(fleet)).toMatchObject({ state: 'rebooting', holds_place: true });
    expect((await resolve(fleet, { reason: 'the copy was switched off' })).status).toBe(200);
    after.clock.advance(600_000);
    await after.duties.tick();
    expect(await status(fleet)).toMatchObject({ state: 'completed', holds_place: false });
    expect((await status(fleet)).conflict).toBeUndefined();
  });

  test('that ask at the same moment reboot one at most', async () => {
    const { fleet, one } = await start();
    const two = await copyOf(one);
    const turn = async (member: TestMember) => {
      await member.offer.mayReboot(RELEASE);
      return (await member.offer.beginReboot()).granted;
    };
    const granted = (await Promise.all([turn(one), turn(two)])).filter((yes) => yes);
    expect(granted.length).toBeLessThanOrEqual(1);
    await one.offer.mayReboot(RELEASE);
    await two.offer.mayReboot(RELEASE);
    await one.offer.mayReboot(RELEASE);
    expect(await status(fleet)).toMatchObject({ conflict: expect.any(String) });
  });

  test('get no fresh certificate, neither of them', async () => {
    const { fleet, one } = await start();
    const two = await copyOf(one);
    await one.offer.mayReboot(RELEASE);
    await two.offer.mayReboot(RELEASE);
    const before = await loadMembership(one.files);
    one.clock.advance(21 * 86_400_000);
    // What it holds cannot be given back either.
    for (const member of [one, two])
      await expect(member.duties.tick()).rejects.toMatchObject({ code: 'IDENTITY_SHARED' });
    expect([await loadMembership(one.files), await loadMembership(two.files)]).toEqual([before, before]);
    expect(one.log.lines).toContainEqual(
      expect.objectContaining({
        event: 'certificate_not_renewed',
        fields: expect.objectContaining({ code: 'IDENTITY_SHARED' }),
      }),
    );
    expect(await status(fleet)).toMatchObject({ conflict: expect.any(String) });
  });

  test('an admin names the one that is the host: it goes on with a grant of its own, the other stays refused', async () => {
    const { fleet, one } = await start();
    const two = await copyOf(one);
    await one.offer.mayReboot(RELEASE);
    await two.offer.mayReboot(RELEASE);
    expect(await one.offer.mayReboot(RELEASE)).toMatchObject(SHARED);
    expect((await resolve(fleet, { reason: 'no', boot: 'ffffff' })).json.code).toBe('BAD_REQUEST');
    const boot = (await bootOf(one)).slice(0, 8);
    expect((await resolve(fleet, { reason: 'the other is a copy', boot })).status).toBe(200);
    expect(await two.offer.mayReboot(RELEASE)).toMatchObject({ reason: expect.stringContaining('is not qhci-01') });
    expect(await two.offer.beginReboot()).toMatchObject({ granted: false });
    const used = (await loadRecord(two.files))?.fencing_token ?? 0;
    await vi.waitFor(async () => {
      expect(await one.offer.mayReboot(RELEASE)).toEqual({ granted: true });
      expect(await one.offer.beginReboot()).toEqual({ granted: true });
    });
    expect((await loadRecord(one.files))?.fencing_token).toBeGreaterThan(used);
    const id = (await loadMembership(one.files))?.id;
    expect(await trailOf(fleet, `node:${id}`)).toContain('identity_decided by root on the socket');
  });

  test('nothing is to be decided where nobody was seen, and a viewer decides nothing', async () => {
    const { fleet } = await start();
    expect((await resolve(fleet, { reason: 'why' })).json.code).toBe('IDENTITY_NOT_SHARED');
    expect(
      (await fleet.call({}, NODE_ROUTES.resolveNode, { params: { node: 'qhci-01' }, body: { reason: 'why' } })).status,
    ).toBe(401);
  });
});

describe('no conflict is', () => {
  const start = async () => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    return { fleet, one: await newMember(fleet, 'qhci-01', { carries_vms: false }) };
  };

  test('a reboot, and the next one', async () => {
    const { fleet, one } = await start();
    let member = one;
    for (const round of [1, 2]) {
      expect([round, await member.offer.mayReboot(RELEASE)]).toEqual([round, { granted: true }]);
      expect(await member.offer.beginReboot()).toEqual({ granted: true });
      member = await rebooted(member);
      await member.report.outcome(outcome('complete'));
      await member.duties.tick();
      expect(await status(fleet)).toMatchObject({ state: 'completed', holds_place: false });
    }
    expect((await status(fleet)).conflict).toBeUndefined();
  });

  test('an agent that starts anew, nor a machine that crashes with a grant in hand: that one is granted anew', async () => {
    const { fleet, one } = await start();
    await one.offer.mayReboot(RELEASE);
    const again = await openMember({ root: one.root, clock: one.clock });
    expect(await again.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    const token = (await loadRecord(again.files))?.fencing_token ?? 0;
    const crashed = await rebooted(again);
    expect(await crashed.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect((await loadRecord(crashed.files))?.fencing_token).toBe(token + 1);
    expect(await crashed.offer.beginReboot()).toEqual({ granted: true });
    expect((await status(fleet)).conflict).toBeUndefined();
  });

  test('a reboot that a person asks for before the fleet has heard of the last one: it waits', async () => {
    const { fleet, one } = await start();
    await one.offer.mayReboot(RELEASE);
    await one.offer.beginReboot();
    const after = await rebooted(one);
    expect(await after.offer.mayReboot(RELEASE)).toMatchObject({ reason: expect.stringContaining('not heard yet') });
    expect((await status(fleet)).conflict).toBeUndefined();
  });

  test('an agent from before, which does not say which boot it is', async () => {
    const { fleet } = await start();
    const old = await enrolled(fleet, 'qhci-02');
    const as = { certificate: old.certificate };
    const body = { node_id: 'qhci-02', target_version: '1.1.0', update_type: 'component' };
    expect((await fleet.call(as, R.requestMaintenance, { body })).json.state).toBe('ready');
    expect((await fleet.call(as, R.requestMaintenance, { body })).json.conflict).toBeUndefined();
    const wrong = await fleet.call({ ...as, headers: { 'x-qx-boot': 'x' } }, R.requestMaintenance, { body });
    expect(wrong.json.code).toBe('BAD_REQUEST');
  });
});
