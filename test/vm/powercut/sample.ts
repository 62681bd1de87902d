import { open } from 'node:fs/promises';
import { execa } from 'execa';
import { SECTOR_BYTES } from './block-log.ts';
import { reachedIn } from './campaign.ts';
import type { Reached } from './crash-disk.ts';
import { type CrashState, seededRandom, statesOf } from './crash-states.ts';
import { type Epoch, openRecording, type Recording } from './recording.ts';

/**
 * Writes the whole disk, with every partition, as one power cut may leave it, to `disk`; answers what names that state. The
 * same one for the same seed and number. Each time between two flushes is as likely as the others, however much it wrote.
 */
export async function sampleDisk(recording: Recording, seed: number, number: number, disk: string): Promise<string> {
  const random = seededRandom(seed + number * 0x9e3779b1);
  await using opened = await openRecording(recording.logs);
  const { epochs } = opened;
  const last = Math.floor(random() * epochs.length);
  const { id, log, writes } = pick(epochs, last);
  const state = chosen(writes, random);
  await execa('cp', ['--sparse=always', recording.base, disk]);
  const file = await open(disk, 'r+');
  try {
    const put = async (from: Epoch['log'], { write, ranges }: Reached): Promise<void> => {
      for (const [start, end] of ranges === 'all' ? [[0, write.sectors] as const] : ranges) {
        const bytes = await from.read(write, start, end);
        await file.write(bytes, 0, bytes.length, (write.sector + start) * SECTOR_BYTES);
      }
    };
    for (const before of epochs.slice(0, last)) {
      for (const write of before.writes) await put(before.log, { write, ranges: 'all' });
    }
    for (const reached of reachedIn(writes, state)) await put(log, reached);
  } finally {
    await file.close();
  }
  return `${id} of ${epochs.length}, ${state.kind}`;
}

/** One of them, each as likely as the others, without holding all of them. */
function chosen(writes: Epoch['writes'], random: () => number): CrashState {
  const kept: { state: CrashState; seen: number } = { state: { kind: 'prefix', parts: [] }, seen: 0 };
  for (const state of statesOf(writes, random)) {
    kept.seen += 1;
    if (random() * kept.seen < 1) kept.state = state;
  }
  return kept.state;
}

function pick<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new Error(`there is no ${index} of ${list.length}`);
  return item;
}
