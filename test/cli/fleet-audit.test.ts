import { beforeEach, describe, expect, test } from 'vitest';
import { sealDue } from '../../src/server/audit/seals.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { enrolled, type FleetBench, fleetBench } from '../support/fleet.ts';
import { fleetTool } from '../support/fleet-tools.ts';
import { document } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

let fleet: FleetBench;
beforeEach(async () => {
  fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
});

const onSocket = (...args: readonly string[]) => fleetTool(['audit', ...args, '--socket', fleet.socket]);

describe('the audit trail', () => {
  test('is listed, newest last, of one subject too', async () => {
    expect((await onSocket('list')).stdout).toBe('No event.\n');
    await enrolled(fleet, 'qhci-01');
    await fleetTool(['operator', 'add', 'alice', '--role', 'admin', '--socket', fleet.socket]);
    const { stdout } = await onSocket('list');
    expect(stdout).toMatch(/^AT +ABOUT +EVENT +BY +WHAT\n/);
    expect(stdout).toMatch(/Z +qhci-01 +node enrolled +node qhci-01 /);
    expect(stdout).toMatch(/Z +operator:alice +operator added +root on the socket +role=admin\n/);
    expect((await onSocket('list', '--subject', 'qhci-01')).stdout).not.toContain('alice');
    const newest = document(await onSocket('list', '--subject', 'operator:alice', '--limit', '1', '--json'));
    expect(newest).toMatchObject({ schema: 'qx-fleet.audit/1', events: [{ actor: 'root on the socket' }] });
  });

  test('that was not changed is verified with 0, one that was with 7', async () => {
    await fleetTool(['operator', 'add', 'alice', '--role', 'viewer', '--socket', fleet.socket]);
    await sealDue({ store: fleet.store, clock: fakeClock(), log: recordedLog() });
    const good = await onSocket('verify');
    expect([good.exitCode, good.stdout]).toEqual([0, expect.stringMatching(/^The record is as it was written\.\n/)]);
    expect(good.stdout).toContain('Events: 1, chains: 1, seals: 1, chains that went on since: 0.\nLast seal: 1 of ');

    await fleet.store.db.deleteFrom('audit').execute();
    await fleet.store.db.deleteFrom('audit_head').execute();
    const bad = await onSocket('verify');
    expect([bad.exitCode, bad.stdout]).toEqual([7, expect.stringContaining('event 1 is gone, and seal 1 names it')]);
    const json = await onSocket('verify', '--json');
    expect([json.exitCode, document(json)]).toEqual([7, expect.objectContaining({ ok: false, events: 0, seals: 1 })]);
    expect((await onSocket('accept')).exitCode).toBe(2);
    const accepted = await onSocket('accept', '--reason', 'the disk was full');
    expect(accepted.stdout).toMatch(/^Noted as looked into: \d+\. /);
    const after = await onSocket('verify');
    expect([after.exitCode, after.stdout]).toEqual([0, expect.stringMatching(/, faults that were looked into: \d+\./)]);
  });

  test.each([
    [['list', '--limit', '0']],
    [['list', '--limit', '1001']],
    [['list', '--limit', 'ten']],
    [['list', '--subject', 'a b']],
    [['verify', 'node']],
  ])('is not asked for with %j', async (args) => {
    const { exitCode, stdout } = await onSocket(...args);
    expect([exitCode, stdout]).toEqual([2, '']);
  });

  test('of a host that is not there is said to be so', async () => {
    const { exitCode, stderr } = await onSocket('list', '--subject', 'qhci-99');
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('[NODE_UNKNOWN]')]);
  });
});

test.each(['list', 'verify', 'accept'])('audit %s explains itself, with an example', async (verb) => {
  const { exitCode, stdout } = await fleetTool(['audit', verb, '--help']);
  expect(exitCode).toBe(0);
  for (const said of [
    '--json',
    '--server',
    '--token-file',
    '--socket',
    '--ca',
    'Examples:',
    `qx-fleet audit ${verb}`,
  ]) {
    expect(stdout).toContain(said);
  }
});
