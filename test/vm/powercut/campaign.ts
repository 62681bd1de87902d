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
  /** So many states, evenly over the recording: how many writes an update makes differs from one time to the next. */
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
  const { density, every } = samplingOf(opened.epochs, states, aim);
  const random = seededRandom(seed);
  const counter = { seen: 0, chosen: 0 };
  for (const epoch of opened.epochs) {
    const { id, log, writes } = epoch;
    let index = 0;
    for (const state of statesOf(writes, random, density)) {
      const name = `${id}.${index++}`;
      if (!aim(epoch, state) || counter.seen++ < counter.chosen * every) continue;
      if (counter.chosen++ < skip) continue;
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
  readonly every: number;
}

/** More states by chance where there are too few, and only one of so many where there are too many. */
function samplingOf(epochs: readonly Epoch[], wanted: number, aim: NonNullable<CampaignOptions['aim']>): Sampling {
  for (let density = 1; ; density *= 2) {
    const count = epochs.reduce((sum, epoch) => sum + countOf(epoch, density, aim), 0);
    if (count >= wanted || density >= MAX_DENSITY) return { density, every: Math.max(1, count / wanted) };
  }
}

const MAX_DENSITY = 1024;

function countOf(epoch: Epoch, density: number, aim: NonNullable<CampaignOptions['aim']>): number {
  let count = 0;
  for (const state of statesOf(epoch.writes, Math.random, density)) if (aim(epoch, state)) count += 1;
  return count;
}
