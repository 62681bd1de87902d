import { beforeEach, describe, expect, test } from 'vitest';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { type EnrolledHost, enrolled, type FleetBench, fleetBench } from '../support/fleet.ts';
import { fleetTool } from '../support/fleet-tools.ts';
import { document } from '../support/release-tools.ts';
import { temporaryFolder } from '../support/temp.ts';

let fleet: FleetBench;
let hosts: readonly EnrolledHost[];
beforeEach(async () => {
  fleet = await fleetBench({ url: `sqlite:${await temporaryFolder()}/fleet.db` });
  hosts = [await enrolled(fleet, 'qhci-01'), await enrolled(fleet, 'qhci-02')];
});

const onSocket = (...args: readonly string[]) => fleetTool([...args, '--socket', fleet.socket]);

async function ask(index: number): Promise<void> {
  const { name = '', certificate } = hosts[index] ?? {};
  const body = { node_id: name, target_version: '2.0.0', update_type: 'full' as const };
  await fleet.call(certificate === undefined ? {} : { certificate }, MAINTENANCE_ROUTES.requestMaintenance, { body });
}

async function report(more: object): Promise<void> {
  const { certificate } = hosts[0] ?? {};
  const body = { node_id: 'qhci-01', epoch: 1, total_vms: 2, migrated_vms: 1, completed: false, ...more };
  await fleet.call(certificate === undefined ? {} : { certificate }, MAINTENANCE_ROUTES.drainProgress, { body });
}

describe('maintenance', () => {
  test('of nobody is said to be so', async () => {
    expect((await onSocket('maintenance', 'list')).stdout).toBe('No host is in maintenance.\n');
    expect(document(await onSocket('maintenance', 'list', '--json'))).toEqual({
      schema: 'qx-fleet.maintenance/1',
      nodes: [],
      count: 0,
    });
    const nobody = await onSocket('maintenance', 'show', 'qhci-99');
    expect([nobody.exitCode, nobody.stderr]).toEqual([1, expect.stringContaining('[NODE_UNKNOWN]')]);
    const cancelled = await onSocket('maintenance', 'cancel', 'qhci-01');
    expect([cancelled.exitCode, cancelled.stderr]).toEqual([1, expect.stringContaining('[NOT_IN_MAINTENANCE]')]);
  });

  test('is listed with who waits and for what, and shown with the VM that is stuck', async () => {
    await ask(0);
    await ask(1);
    await report({ remaining_vms: ['vm-7'], failed_vms: [{ vm: 'vm-7', reason: 'a USB stick is passed through' }] });
    const { stdout } = await onSocket('maintenance', 'list');
    expect(stdout).toMatch(/^NAME +STATE +TO +GROUP +PLACE +VMS LEFT +SINCE +MESSAGE\n/);
    expect(stdout).toMatch(/qhci-01 +draining +2\.0\.0 +default +yes +1 +20\S+ +Draining VMs: 1\/2 migrated\n/);
    expect(stdout).toMatch(/qhci-02 +requested +2\.0\.0 +default +no +- /);
    const shown = (await onSocket('maintenance', 'show', 'qhci-01')).stdout;
    expect(shown).toMatch(/VMs left +vm-7\n/);
    expect(shown).toMatch(/VM stuck +vm-7: a USB stick is passed through\n/);
    const waits = document(await onSocket('maintenance', 'show', 'qhci-02', '--json'));
    expect(waits.message).toBe('Maintenance requested, waiting: group:default has 1 away, at most 1 may be');
  });

  test('is cancelled, and forced with a reason', async () => {
    await ask(0);
    await ask(1);
    const cancelled = await onSocket('maintenance', 'cancel', 'qhci-01');
    expect(cancelled.stdout).toBe('qhci-01 is cancelled, and holds no place: Maintenance cancelled\n');
    const silent = await onSocket('maintenance', 'force', 'qhci-02');
    expect([silent.exitCode, silent.stderr]).toEqual([2, expect.stringContaining('--reason')]);
    const forced = await onSocket('maintenance', 'force', 'qhci-02', '--reason', 'water in the rack', '--json');
    expect(document(forced)).toMatchObject({ node_id: 'qhci-02', state: 'ready', proceed_now: true });
  });

  test('that has begun is not cancelled, and why is said', async () => {
    await ask(0);
    await report({ migrated_vms: 2, completed: true });
    const { certificate } = hosts[0] ?? {};
    const status = document(await onSocket('maintenance', 'show', 'qhci-01', '--json'));
    const { maintenance_id, fencing_token } = status;
    const body = { node_id: 'qhci-01', maintenance_id, fencing_token, state: 'rebooting' };
    await fleet.call(certificate === undefined ? {} : { certificate }, MAINTENANCE_ROUTES.proceed, { body });
    const late = await onSocket('maintenance', 'cancel', 'qhci-01');
    expect([late.exitCode, late.stderr]).toEqual([5, expect.stringContaining('the host is rebooting already')]);
    expect(late.stderr).toContain('[CANCEL_UNSAFE]');
  });
});

test('an order that the control plane does not take is listed, and given up with a reason', async () => {
  expect((await onSocket('order', 'list')).stdout).toBe('The control plane has taken every order.\n');
  const node_id = hosts[0]?.id ?? '';
  const body = JSON.stringify({ node_id: 'qhci-01', maintenance_id: 'm'.repeat(16), epoch: 1 });
  const order = { node_id, sequence: 1, kind: 'drain', body, created_ms: 0, due_ms: 0, attempts: 7 } as const;
  await fleet.store.change((change) =>
    change
      .insertInto('outbox')
      .values({ ...order, delivered_ms: null, error: 'the control plane answered 404' })
      .execute(),
  );
  expect((await onSocket('order', 'list')).stdout).toMatch(
    /qhci-01 +1 +drain +1970\S+ +7 +the control plane answered 404\n/,
  );
  expect((await onSocket('order', 'drop', 'qhci-01', '1')).exitCode).toBe(2);
  const dropped = await onSocket('order', 'drop', 'qhci-01', '1', '--reason', 'installed anew');
  expect(dropped.stdout).toBe('Order 1 of qhci-01, to drain, is given up\n');
  const again = await onSocket('order', 'drop', 'qhci-01', '1', '--reason', 'installed anew');
  expect([again.exitCode, again.stderr]).toEqual([
    1,
    expect.stringContaining('next: see which wait: qx-fleet order list'),
  ]);
});

describe('budgets', () => {
  test('are shown with who is away, set, and taken back', async () => {
    await ask(0);
    const first = await onSocket('budget', 'list');
    expect(first.stdout).toMatch(/^OF +AT MOST\ngroup:\* +1 host \(standard\)\nha-pair +1 host \(standard\)\n\nAWAY/);
    expect(first.stdout).toMatch(/qhci-01 +20\S+ +group:default\n$/);
    const set = await onSocket('budget', 'set', 'group:default', '--percent', '10', '--hosts', '2');
    expect(set.stdout).toBe('group:default: at most 2 hosts, and 10 % of the hosts\n');
    expect((await onSocket('budget', 'list')).stdout).toMatch(/\ngroup:default +2 hosts, and 10 % of the hosts\n/);
    expect(document(await onSocket('budget', 'unset', 'group:default', '--json'))).toMatchObject({ status: 'deleted' });
  });

  test.each([
    [['set', 'group:default'], 2, 'BAD_REQUEST'],
    [['set', 'group:default', '--percent', '101'], 2, 'up to 100'],
    [['set', 'group:default', '--percent', '-1'], 2, 'up to 100'],
    [['set', 'group:default', '--hosts', '1e3'], 2, 'whole number'],
    [['set', 'Rack 1', '--hosts', '1'], 2, 'Not like group:default'],
    [['unset', 'rack'], 1, 'NOT_FOUND'],
  ])('%j is refused', async (args, exitCode, said) => {
    const refused = await onSocket('budget', ...args);
    expect([refused.exitCode, refused.stderr]).toEqual([exitCode, expect.stringContaining(said)]);
  });
});

describe('places', () => {
  test('are listed, and given back with a reason', async () => {
    expect((await onSocket('place', 'list')).stdout).toBe('Nobody holds a place.\n');
    await ask(0);
    expect((await onSocket('place', 'list')).stdout).toMatch(
      /^HOLDER +GROUP +STATE .*\nqhci-01 +default +draining +20/,
    );
    expect((await onSocket('place', 'release', 'qhci-01')).exitCode).toBe(2);
    const released = await onSocket('place', 'release', 'qhci-01', '--reason', 'its disk is dead');
    expect(released.stdout).toBe('qhci-01 holds no place any more\n');
    const again = await onSocket('place', 'release', 'qhci-01', '--reason', 'its disk is dead');
    expect([again.exitCode, again.stderr]).toEqual([1, expect.stringContaining('qx-fleet place list')]);
  });

  test('and so are invitations', async () => {
    expect((await onSocket('node', 'invites')).stdout).toBe('No invitation is open.\n');
    await onSocket('node', 'invite', 'qhci-03', '--host', 'updates.example.org:9000');
    const { invites } = document(await onSocket('node', 'invites', '--json')) as unknown as {
      invites: { invite_id: string }[];
    };
    expect((await onSocket('node', 'invites')).stdout).toContain('root on the socket');
    const withdrawn = await onSocket('node', 'uninvite', invites[0]?.invite_id ?? '', '--reason', 'it does not come');
    expect(withdrawn.stdout).toContain('Nobody can enrol as qhci-03');
    expect((await onSocket('node', 'invites')).stdout).toBe('No invitation is open.\n');
  });
});
