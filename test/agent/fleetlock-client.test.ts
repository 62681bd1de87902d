import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { enrol } from '../../src/agent/fleet/enrol.ts';
import { idFor } from '../../src/agent/identity.ts';
import { loadRecord } from '../../src/agent/maintenance/record.ts';
import { fleetBench, operatorToken, SITE } from '../support/fleet.ts';
import { lockServer } from '../support/lock-server.ts';
import { JOURNAL, joinString, openMember, RELEASE, untilGranted } from '../support/member.ts';
import { temporaryFolder } from '../support/temp.ts';

/** This host asks a FleetLock server of somebody else's, by the protocol alone. */

const outcome = (result: 'complete' | 'rolled_back') => ({
  id: 'abcdefgh01234567',
  release: RELEASE,
  result,
  at: '2026-11-27T12:00:00Z',
});

async function member(url: string, id: string, root?: string) {
  const host = await openMember({
    settings: [`fleetlock_url: ${url}`, 'fleetlock_group: rack-1'],
    ...(root && { root }),
  });
  await host.write('etc/machine-id', `${id}\n`);
  return host;
}

const down = (root: string): Promise<void> => rm(join(root, 'run'), { recursive: true, force: true });

describe('a FleetLock server', () => {
  test('gives one host of a group its lock, which is back when its update is over', async () => {
    const { url, asked, holders } = await lockServer();
    const [first, second] = [await member(url, 'a'.repeat(32)), await member(url, 'b'.repeat(32))];
    expect(await first.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(await second.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringContaining('409: semaphore currently full'),
    });
    expect(await first.offer.beginReboot()).toEqual({ granted: true });
    await down(first.root);
    const after = await member(url, 'a'.repeat(32), first.root);
    await after.report.outcome(outcome('complete'));
    await after.duties.tick();
    expect(await second.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(holders.size).toBe(1);
    expect(asked[0]).toMatchObject({ path: '/v1/pre-reboot', group: 'rack-1' });
    // The id of the machine itself is nobody's business.
    expect(asked[0]?.id).toMatch(/^[a-f0-9]{32}$/);
    expect(asked[0]?.id).not.toBe('a'.repeat(32));
  });

  test('tells hosts of one image apart, whose machine-id and host name are the same', async () => {
    const { url, holders } = await lockServer();
    const [first, second] = [await member(url, 'a'.repeat(32)), await member(url, 'a'.repeat(32))];
    expect(await first.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(await second.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
    expect(holders.size).toBe(1);
  });

  test('has a place of an agent from before given back under the id of then, before another is asked for', async () => {
    const { url, asked, holders } = await lockServer();
    const host = await member(url, 'a'.repeat(32));
    const before = idFor('fleetlock', 'a'.repeat(32));
    holders.set('rack-1', before);
    const record = { format: 1, by: 'fleetlock', update_type: 'full', target_version: '1.1.0' };
    await host.write('quantix/limiquantix/maintenance.json', JSON.stringify(record));
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect(asked.map(({ path, id }) => [path, id === before])).toEqual([
      ['/v1/steady-state', true],
      ['/v1/pre-reboot', false],
    ]);
    expect(await host.offer.beginReboot()).toEqual({ granted: true });
    expect(holders.get('rack-1')).toBe((await loadRecord(host.files))?.lock_id);
  });

  test.each([
    ['rebooted', { is_rebooting: true }, 'complete' as const],
    ['failed, and was looked after', { has_failed: true }, null],
  ])('gets back what an agent from before has taken that %s', async (_what, more, result) => {
    const { url, holders } = await lockServer();
    const host = await member(url, 'a'.repeat(32));
    holders.set('rack-1', idFor('fleetlock', 'a'.repeat(32)));
    const record = { format: 1, by: 'fleetlock', update_type: 'full', target_version: '1.1.0', ...more };
    await host.write('quantix/limiquantix/maintenance.json', JSON.stringify(record));
    const journal = { ...JOURNAL, phase: 'rolledBack', pending: false, dismissed: true };
    await host.write('quantix/ab-update-state.json', JSON.stringify(journal));
    if (result !== null) await host.report.outcome(outcome(result));
    await host.duties.tick();
    expect([holders.size, await loadRecord(host.files)]).toEqual([0, null]);
  });

  test('keeps the lock of a host whose update failed, until its operator has seen it', async () => {
    const { url, holders } = await lockServer();
    const host = await member(url, 'a'.repeat(32));
    await untilGranted(host);
    await host.offer.beginReboot();
    await down(host.root);
    await host.report.outcome(outcome('rolled_back'));
    await host.duties.tick();
    await host.duties.tick();
    expect(holders.size).toBe(1);
    await host.write(
      'quantix/ab-update-state.json',
      JSON.stringify({ ...JOURNAL, phase: 'rolledBack', pending: false, dismissed: true }),
    );
    await host.duties.tick();
    expect([holders.size, await loadRecord(host.files)]).toEqual([0, null]);
  });

  test('gets its lock back from a host that joins a fleet meanwhile', async () => {
    const { url, holders } = await lockServer();
    const host = await member(url, 'a'.repeat(32));
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    await enrol(host, await joinString(fleet, 'qhci-01', { carries_vms: false }), {});
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    expect([holders.size, (await loadRecord(host.files))?.by]).toEqual([0, 'fleet']);
  });

  test.each([
    ['500 and nonsense', { status: 500, body: '<html>\u001b[31m' }],
    ['a reason for a terminal', { status: 409, body: JSON.stringify({ kind: 'x', value: '\u001b[2J gone' }) }],
    ['401', { status: 401, body: '' }],
    ['a redirect', { status: 302, body: '' }],
  ])('that answers %s gives no leave', async (_what, answer) => {
    const { url } = await lockServer(() => answer);
    const host = await member(url, 'a'.repeat(32));
    const grant = await host.offer.mayReboot(RELEASE);
    expect(grant.granted).toBe(false);
    expect(JSON.stringify(grant)).not.toMatch(/\\u001b/);
    expect(await host.offer.beginReboot()).toMatchObject({ granted: false });
  });

  test('that is not there gives no leave', async () => {
    const host = await member('http://127.0.0.1:9', 'a'.repeat(32));
    expect(await host.offer.mayReboot(RELEASE)).toMatchObject({ granted: false });
  });

  test('of ours takes the login of an operator from a file', async () => {
    const fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
    const token = await operatorToken(fleet, 'locks', 'operator');
    const host = await openMember({
      settings: [`fleetlock_url: ${fleet.origin}`, 'fleetlock_login: /login'],
      ca: SITE.ca,
    });
    await host.write('login', `locks:${token}\n`, 0o600);
    expect(await host.offer.mayReboot(RELEASE)).toEqual({ granted: true });
    const wrong = await openMember({
      settings: [`fleetlock_url: ${fleet.origin}`, 'fleetlock_login: /login'],
      ca: SITE.ca,
    });
    await wrong.write('login', 'locks:nothing\n', 0o600);
    expect(await wrong.offer.mayReboot(RELEASE)).toMatchObject({
      granted: false,
      reason: expect.stringContaining('401'),
    });
  });
});
