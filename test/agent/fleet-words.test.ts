import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BEFORE, endOf, isMeant, pauseAfter, progressOf, standingOf } from '../../src/agent/maintenance/fleet-words.ts';
import type { HostMaintenance } from '../../src/format/host-maintenance.ts';
import { MAINTENANCE, MAINTENANCE_STATES, type MaintenanceStatus } from '../../src/format/maintenance.ts';

const status = (some: Partial<MaintenanceStatus>): MaintenanceStatus => ({
  node_id: 'qhci-01',
  maintenance_id: 'm1',
  state: 'requested',
  approved: false,
  proceed_now: false,
  message: 'as the server says',
  group: 'default',
  holds_place: false,
  drain_by: 'control-plane',
  target_version: '1.1.0',
  update_type: 'full',
  requires_reboot: true,
  total_vms: 0,
  migrated_vms: 0,
  vms_remaining: 0,
  remaining_vms: [],
  failed_vms: [],
  ...some,
});

test.each([
  ['none', 'wait'],
  ['requested', 'wait'],
  ['draining', 'wait'],
  ['ready', 'go'],
  ['updating', 'go'],
  ['rebooting', 'go'],
  ['verifying', 'wait'],
  ['completed', 'wait'],
  ['failed', 'wait'],
  ['cancelled', 'wait'],
] as const)('a host whose maintenance is %s has to %s', (state, kind) => {
  expect(standingOf(status({ state, proceed_now: state === 'ready' })).kind).toBe(kind);
  const own = standingOf(status({ state, proceed_now: state === 'ready', drain_by: 'host' })).kind;
  expect(own).toBe(state === 'draining' ? 'drain' : kind);
});

test('what is not begun is what may still be cancelled', () => {
  const cancellable = MAINTENANCE_STATES.filter((state) => 'cancel' in MAINTENANCE[state]);
  expect([...BEFORE].sort()).toEqual(cancellable.sort());
});

test('what was called off or failed is left alone for a quarter of an hour, unless the clocks make no sense', () => {
  const nowMs = Date.parse('2026-11-27T12:00:00Z');
  const pause = (state: MaintenanceStatus['state'], completed_at: string) =>
    pauseAfter(status({ state, completed_at }), nowMs) / 60_000;
  expect(pause('failed', '2026-11-27T11:55:00Z')).toBe(10);
  expect(pause('cancelled', '2026-11-27T11:45:00Z')).toBe(0);
  expect(pause('completed', '2026-11-27T11:59:00Z')).toBe(0);
  expect(pause('failed', '2031-01-01T00:00:00Z')).toBe(0);
  expect(pauseAfter(status({ state: 'failed' }), nowMs)).toBe(0);
});

const record: HostMaintenance = { format: 1, by: 'fleet', update_type: 'full', target_version: '1.1.0' };

test('one without an id is the latest for its version; with one it is that alone', () => {
  expect(isMeant(record, status({}))).toBe(true);
  expect(isMeant(record, status({ target_version: '1.2.0' }))).toBe(false);
  expect(isMeant({ ...record, maintenance_id: 'm1' }, status({ target_version: '1.2.0' }))).toBe(true);
  expect(isMeant({ ...record, maintenance_id: 'm0' }, status({}))).toBe(false);
});

test('a host never says that it became what it was not granted for', () => {
  expect(endOf('complete', record, status({}))).toEqual({ success: true, version: '1.1.0' });
  expect(endOf('complete', record, status({ target_version: '1.2.0' }))).toEqual({
    success: false,
    error: 'it runs 1.1.0, and was granted for 1.2.0',
  });
  expect(endOf('failed', record, status({}), 'the console is down')).toEqual({
    success: false,
    error: 'the console is down',
  });
});

test('progress of its own drain is one that the server takes: never more moved than there were', () => {
  fc.assert(
    fc.property(fc.array(fc.string()), fc.nat(50), fc.boolean(), (remaining, gone, isEmpty) => {
      const said = progressOf({ totalVms: remaining.length + gone, remaining, failure: null, isEmpty });
      expect(said.migrated_vms).toBe(gone);
      expect(said.total_vms - said.migrated_vms).toBe(said.remaining_vms.length);
    }),
  );
});
