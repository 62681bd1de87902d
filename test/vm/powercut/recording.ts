import type { MachineDisk } from '../../../scripts/support/machine-disk.ts';
import { type BlockLog, type LoggedWrite, openBlockLog } from './block-log.ts';
import { epochsOf } from './crash-states.ts';

/** What a machine did to its disk during a whole update, and what the disk was before. */
export interface Recording {
  /** The disk when it was new. */
  readonly base: string;
  /** Of each start since then, one after the other. */
  readonly logs: readonly string[];
  readonly partitions: MachineDisk['partitions'];
  /** What has to be on a slot before anybody may boot it. */
  readonly images: Readonly<Record<'A' | 'B', string>>;
}

/** What was written between two flushes. */
export interface Epoch {
  /** Start and place: the same for the same recording. */
  readonly id: string;
  readonly log: BlockLog;
  readonly writes: readonly LoggedWrite[];
}

export interface OpenRecording extends AsyncDisposable {
  readonly epochs: readonly Epoch[];
}

interface Reading {
  /** Only these; what lies between flushes grows together where the others are left out. */
  readonly concerns?: (write: LoggedWrite) => boolean;
  /** Changes what was recorded, to see whether it would be noticed. */
  readonly tamper?: (log: BlockLog) => BlockLog;
}

export async function openRecording(logs: readonly string[], reading: Reading = {}): Promise<OpenRecording> {
  const { concerns = () => true, tamper = (log: BlockLog) => log } = reading;
  await using opened = new AsyncDisposableStack();
  const epochs: Epoch[] = [];
  for (const [start, path] of logs.entries()) {
    const log = tamper(opened.use(await openBlockLog(path)));
    const entries = log.entries.filter((entry) => entry.kind === 'flush' || concerns(entry));
    for (const [place, writes] of epochsOf(entries).entries()) epochs.push({ id: `${start}.${place}`, log, writes });
  }
  const kept = opened.move();
  return { epochs, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
