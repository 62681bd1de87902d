import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { grubMachine } from '../../../scripts/support/grub-emu.ts';
import { slotOf } from '../../../scripts/support/grub-host.ts';
import type { BlockLog, LoggedWrite } from './block-log.ts';
import { openCrashDisk, type Reached } from './crash-disk.ts';
import { type CrashState, seededRandom, statesOf } from './crash-states.ts';
import { type Epoch, openRecording, type Recording } from './recording.ts';

/** Cuts the power at every moment of a recorded update, and asks the real GRUB what it would boot then. */

export interface CampaignOptions {
  readonly recording: Recording;
  /** An empty folder of this campaign's own. */
  readonly folder: string;
  readonly seed: number;
  /**
   * So many states, each time between two flushes as often as the others as far as it has that many: most writes are those of the
   * image, and little can go wrong between them. How many writes an update makes differs from one time to the next.
   */
  readonly states: number;
  /** So many of them were decided before. */
  readonly skip?: number;
  readonly tamper?: (log: BlockLog) => BlockLog;
  /** The moments to look at; all without it. */
  readonly aim?: (epoch: Epoch, state: CrashState) => boolean;
}

export interface Decided {
  /** Names the state for this recording, seed and number of states: start, epoch and state. */
  readonly id: string;
  readonly state: CrashState;
  /** What GRUB would start; null when nothing. */
  readonly slot: 'A' | 'B' | null;
  /** The slot that boots holds its image to the last byte. */
  readonly isWhole: boolean;
  readonly output: string;
  /** Copies the disk, in which GRUB has counted by then. */
  keep(path: string): Promise<void>;
}

/** Nothing boots, or what boots is not whole. */
export const isBrick = ({ isWhole }: Decided): boolean => !isWhole;

/** Every state in its turn; the disk stays as it is for one until the next is asked for. */
export async function* campaign(options: CampaignOptions): AsyncGenerator<Decided> {
  const { folder, seed, states, skip = 0, aim = () => true } = options;
  const { base, logs, partitions, images } = options.recording;
  const disk = join(folder, 'disk.img');
  await execa('cp', ['--sparse=always', base, disk]);
  const grubFolder = join(folder, 'grub');
  await mkdir(grubFolder);
  const run = await grubMachine(grubFolder);
  const { boot, A, B } = partitions;
  const slots = { A: { partition: A, image: images.A }, B: { partition: B, image: images.B } };
  await using crashDisk = await openCrashDisk({ disk, boot, slots });

  const decide = async (id: string, state: CrashState): Promise<Decided> => {
    const whole = (['A', 'B'] as const).filter((slot) => crashDisk.isWhole(slot));
    // Whole bytes need not be read again each time to know that GRUB can read them.
    const known = whole.map((slot) => `(hd0,gpt${slot === 'A' ? 2 : 3})`);
    // A GRUB that does not come to an end boots nothing either.
    const booted = await run({ disks: [disk], root: 'hd0,gpt1', known }).catch((error: Error) => {
      return { kernel: null, output: error.message };
    });
    const slot = slotOf(booted) as 'A' | 'B' | null;
    const keep = async (path: string): Promise<void> => void (await execa('cp', ['--sparse=always', disk, path]));
    return { id, state, slot, isWhole: slot !== null && whole.includes(slot), output: booted.output, keep };
  };

  const reading = { concerns: crashDisk.concerns, ...(options.tamper === undefined ? {} : { tamper: options.tamper }) };
  await using opened = await openRecording(logs, reading);
  const { density, counts } = samplingOf(opened.epochs, states, aim);
  const most = mostOfEach(counts, states);
  const random = seededRandom(seed);
  let chosen = 0;
  for (const [i, epoch] of opened.epochs.entries()) {
    const { id, log, writes } = epoch;
    const count = counts[i] ?? 0;
    let [index, seen] = [0, 0];
    for (const state of statesOf(writes, random, density)) {
      const name = `${id}.${index++}`;
      if (!aim(epoch, state) || !isOneOf(Math.min(count, most), count, seen++)) continue;
      if (chosen++ < skip) continue;
      await using _ = await crashDisk.during(log, reachedIn(writes, state));
      yield await decide(name, state);
    }
    await crashDisk.take(log, writes.map(whole));
  }
}

const whole = (write: LoggedWrite): Reached => ({ write, ranges: 'all' });

export const reachedIn = (writes: readonly LoggedWrite[], { parts }: CrashState): readonly Reached[] =>
  parts.flatMap(({ write, ranges }) => writes.slice(write, write + 1).map((reached) => ({ write: reached, ranges })));

interface Sampling {
  readonly density: number;
  /** How many states each epoch has then. */
  readonly counts: readonly number[];
}

/** More states by chance where there are too few. */
function samplingOf(epochs: readonly Epoch[], wanted: number, aim: NonNullable<CampaignOptions['aim']>): Sampling {
  for (let density = 1; ; density *= 2) {
    const counts = epochs.map((epoch) => countOf(epoch, density, aim));
    if (sum(counts) >= wanted || density >= MAX_DENSITY) return { density, counts };
  }
}

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

/** So many of each epoch at most, and all together are at least as many as are wanted where there are that many. */
export function mostOfEach(counts: readonly number[], wanted: number): number {
  let most = 1;
  while (sum(counts.map((count) => Math.min(count, most))) < Math.min(wanted, sum(counts))) most += 1;
  return most;
}

/** Whether number `index` of so many is one of `chosen` that lie evenly among them. */
export const isOneOf = (chosen: number, count: number, index: number): boolean =>
  Math.floor(((index + 1) * chosen) / count) > Math.floor((index * chosen) / count);

const MAX_DENSITY = 1024;

function countOf(epoch: Epoch, density: number, aim: NonNullable<CampaignOptions['aim']>): number {
  let count = 0;
  for (const state of statesOf(epoch.writes, Math.random, density)) if (aim(epoch, state)) count += 1;
  return count;
}
