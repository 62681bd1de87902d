import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { blockFile, grubMachine, makeExt4 } from '../../scripts/support/grub-emu.ts';
import { slotOf } from '../../scripts/support/grub-host.ts';
import { armTrial, type BootState, decideBoot, freshState, invalidate, type Slot } from '../../src/core/boot.ts';
import { parseCmdline } from '../../src/format/cmdline.ts';
import { decodeBoot, encodeBoot } from '../../src/format/grubenv.ts';
import { TRIAL } from '../support/boot-states.ts';
import {
  type Bench,
  COMMANDS,
  expected,
  makeBench,
  makeSquashfs,
  observed,
  REAL_GRUB_CFG,
  slotTree,
  stateOnBoth,
} from '../support/grub-bench.ts';
import { requires } from '../support/requires.ts';

const both: BootState = { ...freshState('A'), B: { ok: true, tries: 0 } };
const armed = armTrial(invalidate(both, 'B'), 'B', TRIAL);

requires({ commands: COMMANDS })('what a person picks in the menu', () => {
  let folder = '';
  let bench: Bench;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
    bench = await makeBench(folder);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('safe: the automatic choice, without the data partition', async () => {
    const started = await bench.start({ copies: stateOnBoth(both), entry: 'safe' });
    expect(started.kernel?.cmdline).toMatch(/quantix\.slot=A .*quantix\.safe$/);
  });

  test.each<[Slot, BootState]>([
    ['A', armed],
    ['B', both],
    ['B', freshState('A')],
  ])('slot %s is obeyed and changes nothing', async (slot, state) => {
    const started = await bench.start({ copies: stateOnBoth(state), entry: `slot-${slot.toLowerCase()}` });
    expect(started.slot).toBe(slot);
    expect(started.kernel?.cmdline).not.toContain('quantix.trial');
    expect(started.after).toEqual(stateOnBoth(state));
  });

  test('a trial slot still counts', async () => {
    const started = await bench.start({ copies: stateOnBoth(armed), entry: 'slot-b' });
    expect(observed(started)).toEqual(expected(decideBoot(armed)));
  });
});

requires({ commands: [...COMMANDS, 'sfdisk'] })('a disk with the partitions of Quantix-OS', () => {
  test.each([
    ['grub', 'gpt'],
    ['boot/grub', 'gpt'],
    ['grub', 'dos'],
  ])('slots are found beside the boot partition, environment in /%s (%s)', async (home, table) => {
    const folder = await mkdtemp(join(tmpdir(), 'quantix-grub-'));
    const part = table === 'gpt' ? 'gpt' : 'msdos';
    try {
      const boot = await mkdtemp(join(folder, 'boot-'));
      await mkdir(join(boot, home), { recursive: true });
      await writeFile(join(boot, home, 'grub.cfg'), await readFile(REAL_GRUB_CFG));
      for (const copy of ['grubenv', 'grubenv.bak']) await writeFile(join(boot, home, copy), encodeBoot(armed));
      const parts = [join(folder, 'p1'), join(folder, 'p2'), join(folder, 'p3')] as const;
      await makeExt4(boot, parts[0], 2);
      await makeSquashfs(await slotTree(folder, 'A'), parts[1]);
      await makeSquashfs(await slotTree(folder, 'B'), parts[2]);
      const disk = await partitioned(folder, parts, table);
      const run = await grubMachine(folder);
      const started = await run({ disks: [disk], root: `hd0,${part}1`, configPath: `/${home}/grub.cfg` });
      expect([slotOf(started), started.kernel?.path]).toEqual(['B', `(hd0,${part}3)/boot/vmlinuz`]);
      const [bootPart, A, B] = await partitionIds(disk);
      expect(parseCmdline(started.kernel?.cmdline ?? '')).toMatchObject({
        bootPart,
        slotParts: { A, B },
        triesLeft: 2,
      });
      expect(started.kernel?.cmdline).toContain(`root=PARTUUID=${B} `);
      const saved = await blockFile(parts[0], `/${home}/grubenv`);
      expect(decodeBoot(await saved.read())).toEqual(armed);
      await execa('dd', [`if=${disk}`, `of=${parts[0]}`, 'bs=1M', 'skip=1', 'count=2', 'conv=notrunc']);
      expect(decodeBoot(await saved.read())).toMatchObject({ B: { ok: false, tries: 2 } });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

/** As the kernel and blkid write them. */
async function partitionIds(disk: string): Promise<readonly string[]> {
  const { stdout } = await execa('sfdisk', ['--json', disk]);
  const { label, id, partitions } = JSON.parse(stdout).partitiontable;
  return partitions.map(({ uuid }: { uuid?: string }, i: number) =>
    label === 'gpt' ? String(uuid).toLowerCase() : `${id.slice(2)}-0${i + 1}`,
  );
}

/** 2 MiB for each part, from the first MiB on. */
async function partitioned(folder: string, parts: readonly string[], label: string): Promise<string> {
  const disk = join(folder, 'disk.img');
  await execa('truncate', ['-s', `${2 + parts.length * 2}M`, disk]);
  const table = parts.map((_, n) => `start=${2048 + n * 4096}, size=4096`).join('\n');
  await execa('sfdisk', ['-q', disk], { input: `label: ${label}\n${table}\n` });
  for (const [n, part] of parts.entries()) {
    await execa('dd', [`if=${part}`, `of=${disk}`, 'bs=1M', `seek=${1 + n * 2}`, 'conv=notrunc']);
  }
  return disk;
}
