import { describe, expect, test } from 'vitest';
import { type HostFacts, type InstallRequest, planUpdate } from '../../src/core/plan.ts';
import type { FullImage, Manifest } from '../../src/format/manifest.ts';
import { componentOf, manifestOf } from '../support/keys.ts';

const bytes = new TextEncoder().encode('bytes');
const DIGEST = 'd'.repeat(64);
const image: FullImage = {
  artifact: 'system.squashfs',
  sha256: 'a'.repeat(64),
  size_bytes: 1000,
  requires_reboot: true,
};

const host = (overrides: Partial<HostFacts> = {}): HostFacts => ({
  version: '1.0.0',
  currentVersion: '1.0.0',
  osVersion: '1.0.0',
  components: new Map([['qx-node', '1.0.0']]),
  carried: new Map(),
  runningSlot: 'A',
  runningImage: null,
  isOnTrial: false,
  bad: new Map(),
  armed: null,
  ...overrides,
});

const plan = (manifest: Partial<Manifest>, facts: Partial<HostFacts> = {}, request: InstallRequest = {}) =>
  planUpdate({ manifest: manifestOf(manifest), digest: DIGEST }, host(facts), request);

describe('what is installed', () => {
  test('defect 6: components that are newer, and only those', () => {
    const components = [componentOf('qx-node', bytes), componentOf('qx-console', bytes, { version: '0.9.0' })];
    const installed = new Map([
      ['qx-node', '1.0.0'],
      ['qx-console', '0.9.0'],
    ]);
    expect(plan({ components }, { components: installed })).toMatchObject({
      kind: 'plan',
      components: [{ name: 'qx-node' }],
      image: null,
      targetSlot: null,
      downloadBytes: bytes.length,
      requiresReboot: false,
    });
  });

  test('a component that was never installed', () => {
    expect(plan({}, { components: new Map() })).toMatchObject({ kind: 'plan', components: [{ name: 'qx-node' }] });
  });

  test.each([
    ['auto', 'A', 'B'],
    ['auto', 'B', 'A'],
    ['B', 'A', 'B'],
    ['A', 'B', 'A'],
  ] as const)('an image for %s while %s runs goes to %s', (target_slot, runningSlot, targetSlot) => {
    const full: Partial<Manifest> = { update_type: 'full', components: [], full_image: { ...image, target_slot } };
    expect(plan(full, { runningSlot })).toMatchObject({ kind: 'plan', targetSlot, requiresReboot: true });
  });

  test('defect 7: no image of the version that runs already', () => {
    const full = { version: '1.0.0', full_image: image, update_type: 'full' } as const;
    expect(plan(full)).toMatchObject({ kind: 'plan', image: null, components: [{ name: 'qx-node' }] });
  });

  test('no image that runs already, whatever version it gives itself', () => {
    const full = { full_image: image, update_type: 'full' } as const;
    expect(plan(full, { runningImage: image.sha256 })).toMatchObject({ kind: 'plan', image: null });
    const onlyImage: Partial<Manifest> = { ...full, components: [] };
    expect(plan(onlyImage, { runningImage: image.sha256 })).toMatchObject({ code: 'NOTHING_NEWER' });
  });

  test('only the components that were asked for, and then no image', () => {
    const full = { full_image: image, update_type: 'full' } as const;
    const request = { components: ['qx-node'] };
    expect(plan(full, {}, request)).toMatchObject({ kind: 'plan', image: null, isWhole: false });
  });

  test('an older one when a downgrade was asked for', () => {
    const installed = new Map([['qx-node', '2.0.0']]);
    expect(plan({}, { components: installed })).toMatchObject({ code: 'NOTHING_NEWER' });
    expect(plan({}, { components: installed }, { allowDowngrade: true })).toMatchObject({ kind: 'plan' });
  });
});

describe('what the image has already', () => {
  const carried = new Map([['qx-node', '1.1.0']]);
  const components = new Map([['qx-node', '1.1.0']]);
  test('is not offered', () => {
    expect(plan({}, { carried, components })).toMatchObject({ code: 'NOTHING_NEWER' });
  });

  test('and what is older would never run: not even when a downgrade is asked for', () => {
    const older = { components: [componentOf('qx-node', bytes, { version: '1.0.5' })] };
    expect(plan(older, { carried, components }, { allowDowngrade: true })).toMatchObject({ code: 'NOTHING_NEWER' });
    // What lies in /data now is newer than both: then the image's own takes over.
    const inData = new Map([['qx-node', '1.2.0']]);
    expect(plan({}, { carried, components: inData }, { allowDowngrade: true })).toMatchObject({ kind: 'plan' });
  });
});

describe('refusals', () => {
  const WAITING = { digest: 'f'.repeat(64), version: '1.0.9' };
  const FAILED: HostFacts['bad'] = new Map([[DIGEST, { reason: 'agent: does not answer', until: null }]]);
  const full: Partial<Manifest> = { update_type: 'full', components: [], full_image: image };
  test.each([
    ['nothing is newer', {}, { components: new Map([['qx-node', '1.1.0']]) }, {}, 'NOTHING_NEWER'],
    ['the slot that runs is named', { ...full, full_image: { ...image, target_slot: 'A' } }, {}, {}, 'SLOT_RUNNING'],
    ['defect 30: no slot is known to run', full, { runningSlot: null }, {}, 'SLOT_NOT_FOUND'],
    ['this boot is on trial', {}, { isOnTrial: true }, {}, 'ON_TRIAL'],
    ['it failed here before', {}, { bad: FAILED }, {}, 'RELEASE_BAD'],
    ['it failed before and another version was asked for', {}, { bad: FAILED }, { version: '1.0.5' }, 'RELEASE_BAD'],
    ['it waits for its reboot', full, { armed: { digest: DIGEST, version: '1.1.0' } }, {}, 'ALREADY_INSTALLED'],
    ['it is components alone, and an image waits for its reboot', {}, { armed: WAITING }, {}, 'REBOOT_PENDING'],
    [
      'components alone are asked of it, and an image waits for its reboot',
      { update_type: 'full', full_image: image },
      { armed: WAITING },
      { components: ['qx-node'] },
      'REBOOT_PENDING',
    ],
    ['a component was asked for that it has not', {}, {}, { components: ['qx-console'] }, 'NOT_FOUND'],
  ] as [string, Partial<Manifest>, Partial<HostFacts>, InstallRequest, string][])(
    '%s',
    (_, manifest, facts, request, code) => {
      expect(plan(manifest, facts, request)).toMatchObject({ kind: 'refusal', code });
    },
  );

  test.each([
    [null, 'is not tried again by itself'],
    ['2026-12-01T00:00:00.000Z', 'is tried again by itself after 2026-12-01T00:00:00.000Z'],
  ])('a release that failed: why, and when it is tried again (%s)', (until, when) => {
    const bad = new Map([[DIGEST, { reason: 'agent: does not answer', until }]]);
    const detail = `release 1.1.0 failed on this host before and ${when}: agent: does not answer`;
    expect(plan({}, { bad })).toMatchObject({ code: 'RELEASE_BAD', detail });
  });

  test('a release that somebody took back is not called a failure', () => {
    const bad = new Map([[DIGEST, { reason: 'no network', until: null, isTakenBack: true }]]);
    const detail = 'release 1.1.0 was taken back on this host and is not installed again by itself: no network';
    expect(plan({}, { bad })).toMatchObject({ code: 'TAKEN_BACK', detail });
  });

  test('one that waits for its reboot is installed, whatever it did before', () => {
    const armed = { digest: DIGEST, version: '1.1.0' };
    const full: Partial<Manifest> = { update_type: 'full', components: [], full_image: image };
    expect(plan(full, { bad: FAILED, armed })).toMatchObject({ code: 'ALREADY_INSTALLED' });
  });

  test('a release that failed is taken when its version is named', () => {
    expect(plan({}, { bad: FAILED }, { version: '1.1.0' })).toMatchObject({ kind: 'plan' });
  });
});
