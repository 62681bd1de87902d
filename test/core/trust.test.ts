import { describe, expect, test } from 'vitest';
import { forgetSeen, judgeRelease, remember, type TrustQuestion } from '../../src/core/trust.ts';
import { EMPTY_MEMORY, type Memory } from '../../src/format/journal.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { manifestOf } from '../support/keys.ts';

const NOW_MS = Date.parse('2026-11-10T12:00:00Z');
const DAY_MS = 24 * 3600 * 1000;

type Changes = { readonly [Part in keyof TrustQuestion]?: Partial<TrustQuestion[Part]> };

/** A host on 1.0.0 that is offered 1.1.0, and what is different about it. */
function ask(changes: Changes & { keyringEpoch?: number } = {}): string | null {
  const question: TrustQuestion = {
    manifest: manifestOf(changes.manifest as Partial<Manifest>),
    memory: { ...EMPTY_MEMORY, ...changes.memory },
    host: { installedVersion: '1.0.0', compatible: ['x86-64'], ...changes.host },
    keyringEpoch: changes.keyringEpoch ?? 1,
    clock: { nowMs: NOW_MS, isSynchronised: true, buildDateMs: Date.parse('2026-10-01T00:00:00Z'), ...changes.clock },
    want: { product: 'quantix-os', channel: 'dev', ...changes.want },
    options: { allowDowngrade: false, isRoot: false, ...changes.options },
  };
  return judgeRelease(question)?.code ?? null;
}

const committed = (release_date: string): Memory['committed'] => ({
  version: '1.0.0',
  release_date,
  release_digest: 'a'.repeat(64),
});

test('the next release for this host is trusted', () => {
  expect(ask()).toBeNull();
});

describe('T10 a release for somebody else', () => {
  test.each<[string, Changes, string | null]>([
    ['another product', { manifest: { product: 'quantix-vdc' } }, 'WRONG_PRODUCT'],
    ['another channel', { manifest: { channel: 'beta' }, want: { channel: 'stable' } }, 'WRONG_CHANNEL'],
    ['another machine', { manifest: { compatible: ['arm64', 'riscv64'] } }, 'NOT_COMPATIBLE'],
    [
      'a machine, on a host that says nothing',
      { manifest: { compatible: ['arm64'] }, host: { compatible: [] } },
      'NOT_COMPATIBLE',
    ],
    ['one of several machines', { manifest: { compatible: ['arm64', 'x86-64'] } }, null],
    ['another version than was asked for', { want: { version: '1.2.0' } }, 'NOT_FOUND'],
    ['the version that was asked for', { want: { version: '1.1.0' } }, null],
  ])('%s', (_title, changes, code) => {
    expect(ask(changes)).toBe(code);
  });
});

describe('T12 replay', () => {
  const memory = { high_water: { 'quantix-os/dev/1': 7 } };

  test.each<[string, Changes & { keyringEpoch?: number }, string | null]>([
    ['a lower sequence', { memory, manifest: { sequence: 6 } }, 'SEQUENCE_REPLAYED'],
    [
      'a lower sequence under a higher version',
      { memory, manifest: { sequence: 6, version: '9.0.0' } },
      'SEQUENCE_REPLAYED',
    ],
    [
      'a lower sequence, unexpired',
      { memory, manifest: { sequence: 6, expires_at: '2099-01-01T00:00:00Z' } },
      'SEQUENCE_REPLAYED',
    ],
    ['no sequence, though one was seen', { memory }, 'SEQUENCE_MISSING'],
    ['the same sequence', { memory, manifest: { sequence: 7 } }, null],
    ['a higher sequence', { memory, manifest: { sequence: 8 } }, null],
    ['no sequence, and none was ever seen', {}, null],
    [
      'a sequence of another channel',
      { memory: { high_water: { 'quantix-os/beta/1': 9 } }, manifest: { sequence: 1 } },
      null,
    ],
    [
      'a sequence of another product',
      { memory: { high_water: { 'quantix-vdc/dev/1': 9 } }, manifest: { sequence: 1 } },
      null,
    ],
    ['a new epoch of the keyring', { memory, manifest: { sequence: 1 }, keyringEpoch: 2 }, null],
    ['an older version, without any sequence', { manifest: { version: '0.9.0' } }, 'DOWNGRADE'],
    [
      'an older version and a clock set back',
      { manifest: { version: '0.9.0' }, clock: { nowMs: 0, isSynchronised: false } },
      'DOWNGRADE',
    ],
    ['a pre-release of what is installed', { manifest: { version: '1.0.0-rc.9' } }, 'DOWNGRADE'],
  ])('%s', (_title, changes, code) => {
    expect(ask(changes)).toBe(code);
  });

  const root = { allowDowngrade: true, isRoot: true };

  test.each<[string, Changes, string | null]>([
    ['root, by name', { want: { version: '0.9.0' }, options: root }, null],
    ['root, whatever the server offers', { options: root }, 'SEQUENCE_REPLAYED'],
    ['anybody, by name', { want: { version: '0.9.0' }, options: { allowDowngrade: true } }, 'DOWNGRADE_NEEDS_ROOT'],
    ['root, by name, without the option', { want: { version: '0.9.0' }, options: { isRoot: true } }, 'DOWNGRADE'],
  ])('an older release, asked for by %s', (_title, changes, code) => {
    expect(ask({ memory, manifest: { sequence: 3, version: '0.9.0' }, ...changes })).toBe(code);
  });

  test('the release between, on the way to one that this host is too old for', () => {
    expect(ask({ memory, manifest: { sequence: 7, version: '1.2.0', min_version: '1.1.0' } })).toBe(
      'TOO_OLD_TO_UPDATE',
    );
    expect(ask({ memory, manifest: { sequence: 6, version: '1.1.0' }, want: { version: '1.1.0' } })).toBeNull();
  });
});

describe('T13 the floor and the lowest version to start from', () => {
  const root = { allowDowngrade: true, isRoot: true };

  test.each<[string, Changes, string | null]>([
    ['below the floor', { memory: { floor: '1.2.0' } }, 'BELOW_FLOOR'],
    [
      'below the floor, by root',
      { memory: { floor: '1.2.0' }, options: root, want: { version: '1.1.0' } },
      'BELOW_FLOOR',
    ],
    ['at the floor', { memory: { floor: '1.1.0' } }, null],
    [
      'older, above the floor, by root',
      { memory: { floor: '0.8.0' }, manifest: { version: '0.9.0' }, options: root },
      null,
    ],
    ['older, by root without the option', { manifest: { version: '0.9.0' }, options: { isRoot: true } }, 'DOWNGRADE'],
    [
      'older, with the option but not root',
      { manifest: { version: '0.9.0' }, options: { allowDowngrade: true } },
      'DOWNGRADE_NEEDS_ROOT',
    ],
    ['the version that is installed', { manifest: { version: '1.0.0' } }, null],
    ['a host that is too old', { manifest: { min_version: '1.0.1' } }, 'TOO_OLD_TO_UPDATE'],
    ['a host that is too old, by root', { manifest: { min_version: '1.0.1' }, options: root }, 'TOO_OLD_TO_UPDATE'],
    ['a host that is just old enough', { manifest: { min_version: '1.0.0' } }, null],
  ])('%s', (_title, changes, code) => {
    expect(ask(changes)).toBe(code);
  });
});

describe('T15 T16 time', () => {
  const expired = { expires_at: '2026-11-10T11:59:59Z' };
  const valid = { expires_at: '2026-11-10T12:00:01Z' };
  const in1970 = { nowMs: 0, isSynchronised: false };

  test.each<[string, Changes, string | null]>([
    ['expired a second ago', { manifest: expired }, 'EXPIRED'],
    ['expires this instant', { manifest: { expires_at: '2026-11-10T12:00:00Z' } }, 'EXPIRED'],
    ['expires in a second', { manifest: valid }, null],
    [
      'in 1970: expired before this program was built',
      { manifest: { expires_at: '2026-09-30T00:00:00Z' }, clock: in1970 },
      'EXPIRED',
    ],
    [
      'in 1970: valid when this program was built',
      { manifest: { expires_at: '2026-10-02T00:00:00Z' }, clock: in1970 },
      null,
    ],
    [
      'in 1970: expired before the last good release was made',
      {
        manifest: { expires_at: '2026-10-02T00:00:00Z' },
        clock: in1970,
        memory: { committed: committed('2026-10-03T00:00:00Z') },
      },
      'EXPIRED',
    ],
    [
      'a clock that is ahead of both',
      { manifest: expired, memory: { committed: committed('2026-10-03T00:00:00Z') } },
      'EXPIRED',
    ],
    ['a memory whose date nobody can read', { manifest: valid, memory: { committed: committed('?') } }, null],
    ['dated more than a day ahead', { manifest: { release_date: '2026-11-11T12:00:01Z' } }, 'DATED_AHEAD'],
    ['dated a day ahead', { manifest: { release_date: '2026-11-11T12:00:00Z' } }, null],
    [
      'dated ahead of a clock that nobody vouches for',
      { manifest: { release_date: '2026-11-20T00:00:00Z' }, clock: in1970 },
      null,
    ],
  ])('%s', (_title, changes, code) => {
    expect(ask(changes)).toBe(code);
  });

  test('a host that woke in 1970 takes the release once its clock is right, without anybody doing anything', () => {
    const manifest = { release_date: '2026-11-09T00:00:00Z', expires_at: '2026-12-01T00:00:00Z' };
    expect(ask({ manifest, clock: in1970 })).toBeNull();
    expect(ask({ manifest, clock: { nowMs: NOW_MS, isSynchronised: true } })).toBeNull();
    expect(ask({ manifest, clock: { nowMs: NOW_MS + 30 * DAY_MS } })).toBe('EXPIRED');
  });
});

test('of several reasons the first in the order of the design is named', () => {
  const all = {
    manifest: { product: 'quantix-vdc', channel: 'beta', expires_at: '2000-01-01T00:00:00Z', version: '0.1.0' },
    memory: { floor: '1.0.0', high_water: { 'quantix-os/dev/1': 7 } },
  } satisfies Changes;
  const fixes: readonly [string, Partial<Manifest>][] = [
    ['WRONG_PRODUCT', {}],
    ['WRONG_CHANNEL', { product: 'quantix-os' }],
    ['SEQUENCE_MISSING', { channel: 'dev' }],
    ['EXPIRED', { sequence: 8 }],
    ['BELOW_FLOOR', { expires_at: '2099-01-01T00:00:00Z' }],
  ];
  let manifest: Partial<Manifest> = all.manifest;
  for (const [code, fix] of fixes) {
    manifest = { ...manifest, ...fix };
    expect(ask({ ...all, manifest })).toBe(code);
  }
});

describe('remember', () => {
  const memory: Memory = { ...EMPTY_MEMORY, high_water: { 'quantix-os/dev/1': 7, 'quantix-os/beta/1': 3 } };

  test('raises the mark of its own product, channel and epoch', () => {
    expect(remember(memory, manifestOf({ sequence: 9 }), 1, NOW_MS).high_water).toEqual({
      'quantix-os/dev/1': 9,
      'quantix-os/beta/1': 3,
    });
    expect(remember(memory, manifestOf({ sequence: 1 }), 2, NOW_MS).high_water['quantix-os/dev/2']).toBe(1);
  });

  test.each([undefined, 1, 7])('never lowers it (sequence %s)', (sequence) => {
    const manifest = manifestOf(sequence === undefined ? {} : { sequence });
    expect(remember(memory, manifest, 1, NOW_MS)).toBe(memory);
  });

  test('takes no bound from a release that is dated ahead, whoever vouches for the clock', () => {
    const manifest = manifestOf({ sequence: 4_070_908_800, release_date: '2099-01-01T00:00:00Z' });
    expect(remember(memory, manifest, 1, NOW_MS)).toBe(memory);
    const later = Date.parse('2099-01-01T00:00:00Z');
    expect(remember(memory, manifest, 1, later).high_water['quantix-os/dev/1']).toBe(4_070_908_800);
  });

  test('what a wrong date left behind is forgotten for one channel, and no version rule with it', () => {
    const poisoned: Memory = { ...memory, floor: '1.0.0', committed: committed('2099-01-01T00:00:00Z') };
    const expiring = { expires_at: '2026-12-01T00:00:00Z', sequence: 5 };
    expect(ask({ manifest: expiring, memory: poisoned })).toBe('SEQUENCE_REPLAYED');
    expect(ask({ manifest: { ...expiring, sequence: 8 }, memory: poisoned })).toBe('EXPIRED');
    const cleared = forgetSeen(poisoned, { product: 'quantix-os', channel: 'dev' });
    expect(cleared.high_water).toEqual({ 'quantix-os/beta/1': 3 });
    expect(cleared.floor).toBe('1.0.0');
    expect(ask({ manifest: expiring, memory: cleared })).toBeNull();
  });

  test('touches nothing else', () => {
    const { high_water, ...rest } = remember(memory, manifestOf({ sequence: 9 }), 1, NOW_MS);
    expect(high_water).not.toEqual(memory.high_water);
    expect({ ...memory, ...rest }).toEqual(memory);
  });
});
