import { describe, expect, test } from 'vitest';
import { isReleaseAtFault, withBad, withCommitted } from '../../src/core/memory.ts';
import { type Activity, type LastResult, updateStatus } from '../../src/core/status.ts';
import { EMPTY_MEMORY, type Journal } from '../../src/format/journal.ts';

const idle: Activity = { kind: 'idle' };
const journal = (phase: Journal['phase']): Journal =>
  ({ phase, target_version: '1.1.0', error: { code: 'UNHEALTHY', detail: 'agent: does not answer' } }) as Journal;

describe('updateStatus', () => {
  const downloading: Activity = { kind: 'downloading', name: 'system.squashfs', doneBytes: 50, totalBytes: 200 };
  test.each([
    ['nothing yet', idle, null, null, { status: 'idle' }],
    ['checking', { kind: 'checking' }, null, null, { status: 'checking' }],
    [
      'progress in whole percent',
      downloading,
      null,
      null,
      { status: 'downloading', message: 'system.squashfs', progress: 25 },
    ],
    [
      'an unknown size is no progress',
      { ...downloading, totalBytes: 0 },
      null,
      null,
      { status: 'downloading', message: 'system.squashfs', progress: 0 },
    ],
    [
      'applying',
      { ...downloading, kind: 'applying', doneBytes: 200 },
      null,
      null,
      { status: 'applying', message: 'system.squashfs', progress: 100 },
    ],
    [
      'available',
      idle,
      { kind: 'available', version: '1.1.0' },
      null,
      { status: 'available', message: 'Version 1.1.0 available' },
    ],
    ['up to date', idle, { kind: 'up_to_date' }, journal('complete'), { status: 'up_to_date' }],
    [
      'a check hides no reboot that is due',
      { kind: 'checking' },
      null,
      journal('armed'),
      { status: 'reboot_required', message: 'Reboot to finish the update to 1.1.0' },
    ],
    [
      'an update that runs comes before that',
      downloading,
      null,
      journal('armed'),
      { status: 'downloading', message: 'system.squashfs', progress: 25 },
    ],
    [
      'after a restart, the last update',
      idle,
      null,
      journal('complete'),
      { status: 'complete', message: 'Updated to version 1.1.0' },
    ],
    [
      'after a roll back, why',
      idle,
      null,
      journal('rolledBack'),
      { status: 'error', message: 'Rolled back from 1.1.0: agent: does not answer' },
    ],
    ['an error', idle, { kind: 'error', message: 'no' }, null, { status: 'error', message: 'no' }],
  ] as [string, Activity, LastResult, Journal | null, object][])('%s', (_, activity, last, saved, status) => {
    expect(updateStatus(activity, last, saved, { running: 'A', next: 'A' })).toEqual(status);
  });

  test.each([
    ['the image that was taken back still runs', 'B', 'A', 'reboot_required'],
    ['the one before runs', 'A', 'A', 'error'],
    ['it was marked good again', 'B', 'B', 'error'],
    ['nobody knows what boots', 'B', null, 'error'],
  ] as const)('rolled back, and %s', (_, running, next, status) => {
    const rolledBack: Journal = {
      ...journal('rolledBack'),
      previous_slot: 'A',
      target_slot: 'B',
      previous_version: '1.0.0',
    };
    expect(updateStatus(idle, null, rolledBack, { running, next })).toMatchObject({ status });
  });
});

test.each([
  ['complete', 'A', 'B', 'reboot_required'],
  ['complete', 'B', 'B', 'complete'],
  ['complete', 'B', null, 'complete'],
  [null, 'A', 'B', 'reboot_required'],
] as const)('a host whose update is %s, which runs slot %s while %s boots next', (phase, running, next, status) => {
  const saved = phase === null ? null : journal(phase);
  expect(updateStatus(idle, null, saved, { running, next })).toMatchObject({ status });
});

describe('a trial', () => {
  const onB = { previous_slot: 'A', target_slot: 'B', error: null } as const;
  const status = (phase: Journal['phase'], change: Partial<Journal> = {}) =>
    updateStatus(idle, null, { ...journal(phase), ...onB, ...change }, { running: 'B', next: 'A' });

  test.each(['armed', 'trial'] as const)('that runs waits for its health, not for a reboot (%s)', (phase) => {
    expect(status(phase)).toEqual({ status: 'applying', message: expect.stringContaining('1.1.0 runs on trial') });
  });

  test('that is turned down says why the host reboots', () => {
    const error = { code: 'UNHEALTHY', detail: 'agent: does not answer' };
    expect(status('trial', { error })).toMatchObject({
      status: 'error',
      message: 'Version 1.1.0 is turned down, and the host reboots: agent: does not answer',
    });
  });
});

test('a host that GRUB contradicts says so before anything else that it believes', () => {
  const boot = { running: 'A', next: 'A' } as const;
  expect(updateStatus(idle, null, journal('complete'), boot, 'two disks')).toEqual({
    status: 'error',
    message: 'two disks',
  });
  const downloading: Activity = { kind: 'downloading', name: 'x', doneBytes: 0, totalBytes: 1 };
  expect(updateStatus(downloading, null, null, boot, 'two disks')).toMatchObject({ status: 'downloading' });
});

describe('memory', () => {
  const NOW_MS = Date.parse('2026-11-02T00:00:00Z');
  const release = {
    version: '1.1.0',
    release_date: '2026-11-01T00:00:00Z',
    release_digest: 'd',
    min_rollback_version: '1.0.0',
  };
  const bad = { version: '1.1.0', release_digest: 'd', at: 'now', reason: 'because' };

  test('the floor rises when a release was good, and never falls', () => {
    const raised = withCommitted(EMPTY_MEMORY, release, NOW_MS);
    expect(raised.floor).toBe('1.0.0');
    expect(withCommitted(raised, { ...release, min_rollback_version: '0.9.0' }, NOW_MS).floor).toBe('1.0.0');
    expect(withCommitted(raised, { ...release, min_rollback_version: null }, NOW_MS).floor).toBe('1.0.0');
  });

  test('a release that turned out good is no longer bad, and the other way round', () => {
    expect(withCommitted(withBad(EMPTY_MEMORY, bad), release, NOW_MS).bad).toEqual([]);
    expect(withBad(withCommitted(EMPTY_MEMORY, release, NOW_MS), bad).committed).toBeNull();
  });

  test('a bad release is remembered once, and the list stays short', () => {
    const many = Array.from({ length: 100 }, (_, i) => ({ ...bad, release_digest: String(i) }));
    const memory = [...many, ...many].reduce(withBad, EMPTY_MEMORY);
    expect(memory.bad).toHaveLength(32);
    expect(new Set(memory.bad.map((b) => b.release_digest)).size).toBe(32);
  });

  test('a network or a full disk is not the fault of a release', () => {
    expect(isReleaseAtFault('SERVICE_FAILED')).toBe(true);
    expect(isReleaseAtFault('SERVER_UNREACHABLE')).toBe(false);
    expect(isReleaseAtFault('NO_SPACE')).toBe(false);
  });
});
