import { createHash } from 'node:crypto';
import { appendFile, mkdir, mkdtemp, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import {
  type BlockFile,
  blockFile,
  GRUB_COMMANDS,
  type GrubRun,
  grubMachine,
  makeExt4,
} from '../../scripts/support/grub-emu.ts';
import { addToLayout, slotOf } from '../../scripts/support/grub-host.ts';
import type { Typist } from '../../scripts/support/keyboard.ts';
import type { BootDecision, BootState, BootWorld, Slot } from '../../src/core/boot.ts';
import { decodeBoot, encodeBoot } from '../../src/format/grubenv.ts';
import type { EnvCopy } from '../../src/ports.ts';

/** Disks for the real grub.cfg in the real GRUB, made once and started many times. */

export const REAL_GRUB_CFG = new URL('../../grub/grub.cfg', import.meta.url);
export const COMMANDS = [...GRUB_COMMANDS, 'mksquashfs'] as const;

export type Copies = Readonly<Record<EnvCopy, Uint8Array>>;

export interface Start {
  readonly copies: Copies;
  readonly readable?: BootWorld['readable'];
  readonly entry?: string;
  readonly typist?: Typist;
  /** Other images in place of the two slots. */
  readonly slots?: Partial<Record<Slot, string>>;
  /** Another boot disk, which the copies are then not written to. */
  readonly bootDisk?: string;
}

export interface Started extends GrubRun {
  readonly slot: string | null;
  readonly after: Copies;
}

export interface Bench {
  readonly folder: string;
  start(start: Start): Promise<Started>;
}

export const bothCopies = (bytes: Uint8Array): Copies => ({ grubenv: bytes, 'grubenv.bak': bytes });
export const stateOnBoth = (state: BootState): Copies => bothCopies(encodeBoot(state));
const ALL_READABLE = { A: true, B: true } as const;

export async function makeBench(folder: string, grubCfg?: string, layout = ''): Promise<Bench> {
  const bootDisk = join(folder, 'boot.img');
  // Not zeros: mke2fs would leave a hole, and GRUB writes to no sparse file.
  await makeExt4(await bootFolder(folder, bothCopies(new Uint8Array(4096).fill(35)), grubCfg, layout), bootDisk, 2);
  const copies: Record<EnvCopy, BlockFile> = {
    grubenv: await blockFile(bootDisk, '/grub/grubenv'),
    'grubenv.bak': await blockFile(bootDisk, '/grub/grubenv.bak'),
  };
  const blank = join(folder, 'blank.img');
  await writeFile(blank, '');
  await truncate(blank, 1 << 20);
  const slots = { A: await squashfsSlot(folder, 'A'), B: await squashfsSlot(folder, 'B') };
  const run = await grubMachine(folder);
  return {
    folder,
    async start(start) {
      const readable = start.readable ?? ALL_READABLE;
      const slot = (name: Slot) => start.slots?.[name] ?? (readable[name] ? slots[name] : blank);
      await copies.grubenv.write(start.copies.grubenv);
      await copies['grubenv.bak'].write(start.copies['grubenv.bak']);
      const disks = [start.bootDisk ?? bootDisk, slot('A'), slot('B')];
      const { entry, typist } = start;
      const chosen = { ...(entry === undefined ? {} : { entry }), ...(typist === undefined ? {} : { typist }) };
      const booted = await run({ disks, root: 'hd0', ...chosen });
      const after = { grubenv: await copies.grubenv.read(), 'grubenv.bak': await copies['grubenv.bak'].read() };
      return { ...booted, slot: slotOf(booted), after };
    },
  };
}

/** A folder `boot` as the installer leaves it. */
export async function bootFolder(
  folder: string,
  copies: Partial<Copies>,
  grubCfg?: string,
  layout = '',
): Promise<string> {
  const boot = await mkdtemp(join(folder, 'boot-'));
  const grub = join(boot, 'grub');
  await mkdir(grub);
  await writeFile(join(grub, 'grub.cfg'), grubCfg ?? (await readFile(REAL_GRUB_CFG, 'utf8')));
  await addToLayout(grub);
  await appendFile(join(grub, 'quantix-layout.cfg'), layout);
  for (const [copy, bytes] of Object.entries(copies)) await writeFile(join(grub, copy), bytes);
  return boot;
}

/** GRUB reads a squashfs but cannot write one: a boot disk that cannot be saved to. */
export async function readOnlyBootDisk(folder: string, copies: Copies): Promise<string> {
  const image = join(await mkdtemp(join(folder, 'readonly-')), 'boot.img');
  await makeSquashfs(await bootFolder(folder, copies), image);
  return image;
}

export async function slotTree(folder: string, name: string, kernelBytes = 1000): Promise<string> {
  const tree = await mkdtemp(join(folder, `tree-${name}-`));
  await mkdir(join(tree, 'boot'));
  // Digits compress by half: the block is stored compressed, yet nearly every byte of it matters.
  const kernel = createHash('shake256', { outputLength: kernelBytes / 2 })
    .update(name)
    .digest('hex');
  await writeFile(join(tree, 'boot', 'vmlinuz'), kernel);
  await writeFile(join(tree, 'boot', 'initramfs'), `initramfs of slot ${name}`);
  return tree;
}

async function squashfsSlot(folder: string, name: Slot): Promise<string> {
  const image = join(folder, `slot-${name}.img`);
  await makeSquashfs(await slotTree(folder, name), image);
  return image;
}

export const makeSquashfs = (tree: string, image: string) =>
  execa('mksquashfs', [tree, image, '-comp', 'xz', '-noappend', '-quiet', '-no-progress']);

/** What GRUB did, and what the decision in TypeScript says it does, in one form. */
export const observed = ({ slot, kernel, output, after }: Started, copy: EnvCopy = 'grubenv') => ({
  slot,
  kernel: kernel?.cmdline ?? null,
  isLoud: /LAST RESORT/.test(output),
  after: decodeBoot(after[copy]),
});

export const expected = (decision: BootDecision, copy: EnvCopy | 'none' = 'grubenv') => ({
  slot: decision.slot,
  kernel: cmdline(decision, copy),
  isLoud: decision.how === 'last-resort' || decision.how === 'nothing',
  after: decision.after,
});

function cmdline({ slot, trial, failed, failedWhy, after }: BootDecision, copy: string): string | null {
  if (slot === null) return null;
  const words = [`root=PARTLABEL=QUANTIX-${slot} ro panic=10 quantix.slot=${slot} quantix.env=${copy}`];
  if (trial !== '') words.push(`quantix.trial=${trial} quantix.tries=${after?.[slot].tries}`);
  if (failed !== '') words.push(`quantix.failed=${failed}`);
  if (failedWhy !== '') words.push(`quantix.failed_why=${failedWhy}`);
  return words.join(' ');
}
