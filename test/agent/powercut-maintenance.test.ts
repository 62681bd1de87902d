import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import { MAINTENANCE_ROUTES as R } from '../../src/format/maintenance-routes.ts';
import type { SteppedClock } from '../support/agent-host.ts';
import { type FleetBench, fleetBench } from '../support/fleet.ts';
import { callsOf, drainProgram, type LocalVms, localVms } from '../support/local-vms.ts';
import { JOURNAL, newMember, openMember, RELEASE, type TestMember, untilGranted } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/**
 * The power goes after each effect of a maintenance, on disk and on the network. The fleet has one place: a host that kept it
 * for ever would keep the one of the next cut waiting.
 */

vi.setConfig({ testTimeout: 300_000 });

const STARTS = ['the agent starts again', 'the machine boots'] as const;
const MAX_EFFECTS = 200;
/** The clock of the host runs ahead here of the programs that it waits for, which are real. */
const PATIENT = ['drain_timeout: 1d'];

interface Life {
  readonly fleet: FleetBench;
  readonly name: string;
  readonly root: string;
  readonly clock: SteppedClock;
  readonly vms: LocalVms;
}

const journalPath = ({ root }: Life): string => join(root, 'quantix/ab-update-state.json');
const phaseOf = async (life: Life): Promise<string> => JSON.parse(await readFile(journalPath(life), 'utf8')).phase;
const setPhase = (life: Life, phase: string): Promise<void> =>
  writeFile(journalPath(life), JSON.stringify({ ...JOURNAL, phase }));

async function born(fleet: FleetBench, name: string): Promise<Life> {
  const { root, clock, write } = await newMember(fleet, name);
  const vms = await localVms(root);
  await write('quantix/limiquantix/drain.d/vms', drainProgram(vms), 0o755);
  await vms.run('vm-1');
  const life = { fleet, name, root, clock, vms };
  await setPhase(life, 'armed');
  return life;
}

/** What the machine does when it boots: /run is empty, and GRUB takes the slot that is armed. */
async function boot(life: Life): Promise<void> {
  await rm(join(life.root, 'run'), { recursive: true, force: true });
  if ((await phaseOf(life)) === 'armed') await setPhase(life, 'trial');
}

/** All that an agent does about an update that waits for its reboot, until there is nothing left to do. */
async function live(life: Life, member: TestMember): Promise<void> {
  if ((await phaseOf(life)) === 'armed') {
    for (;;) {
      const { grant } = await untilGranted(member, 200, () => sleep(10));
      if (!grant.granted) throw new Error(grant.reason);
      if ((await member.offer.beginReboot()).granted) break;
      if (member.isOff()) throw new Error('no power');
    }
    expect(await life.vms.alive()).toEqual([]);
    await boot(life);
    if (member.isOff()) throw new Error('no power');
  }
  await member.duties.tick();
  if ((await phaseOf(life)) === 'trial') {
    await setPhase(life, 'complete');
    const { id } = JOURNAL;
    await member.report.outcome({ id, release: RELEASE, result: 'complete', at: '2026-11-27T12:00:00Z' });
  }
  for (let i = 0; i < 3; i++) await member.duties.tick();
}

async function expectOver({ fleet, name, root }: Life, member: TestMember): Promise<void> {
  const { json } = await fleet.root(R.maintenanceStatus, { params: { nodeId: name } });
  expect(json).toMatchObject({ holds_place: false });
  expect(['completed', 'cancelled', 'none']).toContain(json.state);
  expect(await loadRecord(member.files)).toBeNull();
  expect(await member.files.list('/quantix/limiquantix/reports')).toEqual([]);
  const calls = await callsOf(root);
  if (calls.length > 0) expect(calls.at(-1)).toBe('undrain');
}

describe.each(STARTS)('after each effect; then %s', (start) => {
  test('the host goes on, its place comes back, and its VMs may', async () => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db`, runs: true });
    let count = 0;
    for (let wasCut = true; wasCut; count++) {
      const life = await born(fleet, `qhci-${count}`);
      const cut = await openMember({ root: life.root, clock: life.clock, settings: PATIENT, cutAfter: count });
      await live(life, cut).catch((error: unknown) => {
        if (!cut.isOff()) throw error;
      });
      wasCut = cut.isOff();
      if (wasCut && start === 'the machine boots') await boot(life);
      const after = await openMember({ root: life.root, clock: life.clock, settings: PATIENT });
      await live(life, after);
      await expectOver(life, after);
      expect(count).toBeLessThan(MAX_EFFECTS);
    }
    expect(count).toBeGreaterThan(10);
  });
});
