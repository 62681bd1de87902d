import { describe, expect, test } from 'vitest';
import { bootTrouble, changeBoot, currentBoot, expectWritableBoot, settleBoot } from '../../src/agent/bootenv.ts';
import { armTrial, type BootState, freshState, invalidate, markGood, nextBoot, sameBoot } from '../../src/core/boot.ts';
import type { PendingSlot } from '../../src/core/boot-verdict.ts';
import { parseCmdline } from '../../src/format/cmdline.ts';
import { decodeBlock, decodeBoot, ENV_BYTES, encodeBlock, encodeBoot } from '../../src/format/grubenv.ts';
import type { Boot, Booted, EnvCopy } from '../../src/ports.ts';
import { TRIAL } from '../support/boot-states.ts';
import { NO_DISKS } from '../support/fakes.ts';

const COPIES = ['grubenv', 'grubenv.bak'] as const;
const both: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };
const armed = armTrial(invalidate(both, 'B'), 'B', TRIAL);
const noJournal: PendingSlot = { phase: 'none', target: 'B', trial: '' };

class PowerCut extends Error {}

interface Disk extends Record<EnvCopy, Uint8Array | null> {}

/** A disk whose power goes off in write number `cutAt`, after so many bytes of it. */
function machine(disk: Disk, booted: Partial<Booted> = {}, cut: { write: number; afterBytes: number } | null = null) {
  const writes: EnvCopy[] = [];
  const boot: Boot = {
    booted: async () => ({ ...parseCmdline('quantix.slot=A quantix.env=grubenv'), ...booted }),
    read: async (copy) => disk[copy],
    write: async (copy, bytes) => {
      writes.push(copy);
      const isCut = cut !== null && writes.length === cut.write;
      const torn = Uint8Array.from(disk[copy] ?? new Uint8Array(bytes.length));
      torn.set(isCut ? bytes.subarray(0, cut.afterBytes) : bytes);
      disk[copy] = torn;
      if (isCut) throw new PowerCut();
    },
    bootId: async () => 'boot-1',
    reboot: async () => undefined,
  };
  return { boot, disks: NO_DISKS, writes };
}

const disk = (state: BootState): Disk => ({ grubenv: encodeBoot(state), 'grubenv.bak': encodeBoot(state) });

/** As grub.cfg does: the first copy that is valid. */
const grubReads = (on: Disk): BootState | null =>
  COPIES.map((copy) => (on[copy] === null ? null : decodeBoot(on[copy]))).find((state) => state !== null) ?? null;

describe('where GRUB names a copy that is not there: /boot is not mounted', () => {
  const empty: Disk = { grubenv: null, 'grubenv.bak': null };

  test.each(COPIES)('nothing is made in its place, nor changed (%s)', async (copy) => {
    const on = { ...empty };
    const one = machine(on, { copy });
    expect(await settleBoot(one, noJournal)).toMatchObject({ state: null });
    for (const change of [changeBoot(one, (state) => state), expectWritableBoot(one)]) {
      await expect(change).rejects.toMatchObject({
        code: 'BOOT_MISSING',
        next: expect.stringContaining('mount /boot'),
      });
    }
    expect((await bootTrouble(one))?.message).toContain(`GRUB read ${copy}`);
    expect([on, one.writes]).toEqual([empty, []]);
  });

  test('where GRUB found none either, they are made anew as before', async () => {
    const on = { ...empty };
    const one = machine(on, { copy: null });
    expect(await bootTrouble(one)).toBeNull();
    await settleBoot(one, noJournal);
    expect(grubReads(on)).toEqual(freshState('A'));
  });
});

describe('changing the boot environment', () => {
  test.each(COPIES)('writes the copy that GRUB used first: %s', async (copy) => {
    const on = disk(both);
    const { boot, writes } = machine(on, { copy });
    await changeBoot({ boot, disks: NO_DISKS }, (state) => armTrial(state, 'B', TRIAL));
    expect(writes).toEqual([copy, COPIES.find((other) => other !== copy)]);
    expect(on.grubenv).toEqual(on['grubenv.bak']);
    expect(grubReads(on)).toMatchObject({ order: ['B', 'A'], trial: TRIAL });
  });

  test('writes nothing when nothing changes', async () => {
    const { boot, writes } = machine(disk(both));
    await changeBoot({ boot, disks: NO_DISKS }, (state) => markGood(state, 'A'));
    expect(writes).toEqual([]);
  });

  test('shows that it can be done by writing both copies as they are', async () => {
    const on = disk(both);
    const { boot, writes } = machine(on);
    await expectWritableBoot({ boot, disks: NO_DISKS });
    expect([writes, on]).toEqual([COPIES, disk(both)]);
  });

  test.each(COPIES)('that cannot be done, for %s, is refused with what to do', async (copy) => {
    const on = disk(both);
    const { boot } = machine(on);
    const write: Boot['write'] = async (to, bytes) => {
      if (to === copy)
        throw Object.assign(new Error('EROFS: read-only file system'), { code: 'EROFS', syscall: 'open' });
      await boot.write(to, bytes);
    };
    await expect(expectWritableBoot({ boot: { ...boot, write }, disks: NO_DISKS })).rejects.toMatchObject({
      code: 'BOOT_ENV_READ_ONLY',
      message: expect.stringContaining('EROFS'),
      next: expect.stringContaining('remount,rw /boot'),
    });
    expect(on).toEqual(disk(both));
  });

  test('keeps the variables of other programs', async () => {
    const others = encodeBoot(both, encodeBlock(new Map([['menu_colour', 'blue']])));
    const on: Disk = { grubenv: others, 'grubenv.bak': others };
    await changeBoot(machine(on), (state) => invalidate(state, 'B'));
    expect(decodeBlock(on['grubenv.bak'] ?? new Uint8Array()).get('menu_colour')).toBe('blue');
  });

  test('defect 22: is refused while no copy is valid', async () => {
    const { boot, writes } = machine({ grubenv: new Uint8Array(ENV_BYTES), 'grubenv.bak': null });
    await expect(changeBoot({ boot, disks: NO_DISKS }, (state) => state)).rejects.toMatchObject({
      code: 'BOOT_ENV_INVALID',
    });
    expect(writes).toEqual([]);
  });

  test.each(COPIES)(
    'cut anywhere in either write, booted from %s: GRUB sees the old state or the new one',
    async (copy) => {
      for (const write of [1, 2]) {
        for (let afterBytes = 0; afterBytes <= 330; afterBytes++) {
          const on = disk(both);
          const { boot } = machine(on, { copy }, { write, afterBytes });
          await expect(changeBoot({ boot, disks: NO_DISKS }, () => armed)).rejects.toThrow(PowerCut);
          const seen = grubReads(on);
          const isOldOrNew = seen !== null && (sameBoot(seen, both) || sameBoot(seen, armed));
          expect(isOldOrNew, `write ${write}, ${afterBytes} bytes`).toBe(true);
          const started = machine(on, { copy: copyThatGrubReads(on) });
          await settleBoot(started, noJournal);
          expect(on.grubenv).toEqual(on['grubenv.bak']);
          expect(grubReads(on)).toEqual(seen);
        }
      }
    },
  );

  test('cut while unequal copies are made equal first: old or new as well', async () => {
    for (const write of [1, 2, 3, 4])
      for (const afterBytes of [0, 30, 100, 200, ENV_BYTES]) {
        const on: Disk = { grubenv: new Uint8Array(ENV_BYTES), 'grubenv.bak': encodeBoot(both) };
        const { boot } = machine(on, { copy: 'grubenv.bak' }, { write, afterBytes });
        await changeBoot({ boot, disks: NO_DISKS }, () => armed).catch((error) =>
          expect(error).toBeInstanceOf(PowerCut),
        );
        expect(['A', 'B']).toContain(nextBoot(grubReads(on) ?? both));
        expect(grubReads(on), `write ${write}, ${afterBytes} bytes`).not.toBeNull();
      }
  });
});

describe('settling the boot environment after a start', () => {
  test.each(COPIES)('the copy that GRUB used, %s, is copied over the other one', async (copy) => {
    const on: Disk = { ...disk(both), [copy]: encodeBoot(armed) };
    const { state } = await settleBoot(machine(on, { copy }), noJournal);
    expect(state).toEqual(armed);
    expect(on).toEqual(disk(armed));
  });

  test('a damaged copy is repaired, also the one that GRUB used', async () => {
    const on: Disk = { grubenv: new Uint8Array(ENV_BYTES), 'grubenv.bak': encodeBoot(armed) };
    expect((await settleBoot(machine(on), noJournal)).state).toEqual(armed);
    expect(on).toEqual(disk(armed));
  });

  test('a valid copy with dirt behind its variables is cleaned, the other one first', async () => {
    const dirty = encodeBoot(both);
    dirty[3000] = 0;
    const on: Disk = { grubenv: dirty, 'grubenv.bak': dirty };
    const { boot, writes } = machine(on);
    await settleBoot({ boot, disks: NO_DISKS }, noJournal);
    expect(writes).toEqual(['grubenv.bak', 'grubenv']);
    expect(on).toEqual(disk(both));
  });

  test('copies of another size grow to their own 4 KiB', async () => {
    const short = encodeBlock(decodeBlock(encodeBoot(both)), 1024);
    const on: Disk = { grubenv: short, 'grubenv.bak': short };
    const { boot } = machine(on);
    boot.write = async (copy, bytes) => {
      on[copy] = bytes;
    };
    await settleBoot({ boot, disks: NO_DISKS }, noJournal);
    expect(on).toEqual(disk(both));
  });

  test('settled copies are not written again', async () => {
    const { boot, writes } = machine(disk(both));
    await settleBoot({ boot, disks: NO_DISKS }, noJournal);
    expect(writes).toEqual([]);
  });

  test('lost copies are written anew for the slot that runs; a trial stays a trial', async () => {
    const on: Disk = { grubenv: null, 'grubenv.bak': null };
    const pending: PendingSlot = { phase: 'armed', target: 'B', trial: TRIAL };
    const { state } = await settleBoot(machine(on, { slot: 'B', copy: null }), pending);
    expect(state).toMatchObject({ trial: TRIAL, B: { ok: false }, A: { ok: true } });
    expect(grubReads(on)).toEqual(state);
  });

  test('on a system that our GRUB did not start nothing is written', async () => {
    const on: Disk = { grubenv: null, 'grubenv.bak': encodeBoot(both) };
    const { boot, writes } = machine(on, { slot: null, copy: null });
    expect((await settleBoot({ boot, disks: NO_DISKS }, noJournal)).state).toEqual(both);
    expect(await currentBoot({ boot })).toEqual(both);
    expect(writes).toEqual([]);
  });
});

const copyThatGrubReads = (on: Disk): EnvCopy | null =>
  COPIES.find((copy) => on[copy] !== null && decodeBoot(on[copy]) !== null) ?? null;
