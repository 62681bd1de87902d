import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { grubMachine } from '../../../scripts/support/grub-emu.ts';
import { slotOf } from '../../../scripts/support/grub-host.ts';
import { type BlockLog, openBlockLog } from './block-log.ts';
import { type CrashDiskOptions, openCrashDisk, type Reached } from './crash-disk.ts';
import { type CrashState, epochsOf, seededRandom, statesOf } from './crash-states.ts';

/** Cuts the power at every moment of a recorded update, and asks the real GRUB what it would boot then. */

export interface CampaignOptions extends CrashDiskOptions {
  /** An existing folder of this campaign's own; `disk` is changed. */
  readonly folder: string;
  /** Recorded one after the other, from `disk` as it is. */
  readonly logs: readonly string[];
  readonly seed: number;
  /** How many states are made by chance, of each kind; 1 without it. */
  readonly density?: number;
  /** Only every so many states, evenly; all without it. */
  readonly every?: number;
  /** Changes what was recorded, to see whether it would be noticed. */
  readonly tamper?: (log: BlockLog) => BlockLog;
  /** One is enough. */
  readonly stopsAtBrick?: boolean;
  readonly onState?: (decided: Decided) => void;
}

export interface Decided {
  /** Names the state for this seed: log, epoch and state. */
  readonly id: string;
  readonly state: CrashState;
  /** What GRUB would start; null when nothing. */
  readonly slot: 'A' | 'B' | null;
  /** The slot that boots holds its image to the last byte. */
  readonly isWhole: boolean;
  readonly output: string;
}

export interface Campaign {
  readonly states: number;
  /** By the slot that boots. */
  readonly boots: Readonly<Record<'A' | 'B', number>>;
  /** Nothing boots, or what boots is not whole. */
  readonly bricks: readonly Decided[];
}

export async function runCampaign(options: CampaignOptions): Promise<Campaign> {
  const {
    folder,
    logs,
    seed,
    density = 1,
    every = 1,
    tamper = (log: BlockLog) => log,
    onState = () => undefined,
  } = options;
  const grubFolder = join(folder, 'grub');
  await mkdir(grubFolder);
  const run = await grubMachine(grubFolder);
  const found = { states: 0, boots: { A: 0, B: 0 }, bricks: [] as Decided[] };
  const random = seededRandom(seed);
  const counter = { seen: 0 };
  await using disk = await openCrashDisk(options);

  const decide = async (id: string, state: CrashState): Promise<Decided> => {
    const whole = (['A', 'B'] as const).filter((slot) => disk.isWhole(slot));
    // Whole bytes need not be read again each time to know that GRUB can read them.
    const known = whole.map((slot) => `(hd0,gpt${slot === 'A' ? 2 : 3})`);
    // A GRUB that does not come to an end boots nothing either.
    const booted = await run({ disks: [options.disk], root: 'hd0,gpt1', known }).catch((error: Error) => {
      return { kernel: null, output: error.message };
    });
    const slot = slotOf(booted) as 'A' | 'B' | null;
    return { id, state, slot, isWhole: slot !== null && whole.includes(slot), output: booted.output };
  };

  const isEnough = (decided: Decided): boolean => {
    found.states += 1;
    if (decided.slot !== null) found.boots[decided.slot] += 1;
    if (!decided.isWhole) found.bricks.push(decided);
    onState(decided);
    return options.stopsAtBrick === true && !decided.isWhole;
  };

  for (const [logIndex, path] of logs.entries()) {
    await using opened = await openBlockLog(path);
    const log = tamper(opened);
    const entries = log.entries.filter((entry) => entry.kind === 'flush' || disk.concerns(entry));
    for (const [epochIndex, epoch] of epochsOf(entries).entries()) {
      let stateIndex = 0;
      for (const state of statesOf(epoch, random, density)) {
        const id = `${logIndex}.${epochIndex}.${stateIndex++}`;
        if (counter.seen++ % every !== 0) continue;
        const reached = state.parts.map(({ write, ranges }): Reached => ({ write: at(epoch, write), ranges }));
        const decided = await disk.during(log, reached, () => decide(id, state));
        if (isEnough(decided)) return found;
      }
      await disk.take(
        log,
        epoch.map((write): Reached => ({ write, ranges: 'all' })),
      );
    }
  }
  return found;
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new Error(`there is no ${index} of ${list.length}`);
  return item;
}
