import { join } from 'node:path';
import { execa } from 'execa';
import type { ImageOf, Stage } from '../../support/journey.ts';
import { IN_QEMU, inQemu } from '../machine.ts';
import type { Recording } from './recording.ts';

/** A machine whose every write and flush is written down; for a journey from 1.0.0 to 1.1.0. */
export interface Recorder {
  /** Begins anew each time. `folder` keeps the logs and the disk as it was. */
  stage(folder: string): Stage;
  recording(): Promise<Recording>;
}

export function recorder(imageOf: ImageOf): Recorder {
  const state = { base: '', logs: [] as string[], partitions: null as Recording['partitions'] | null };
  const make = async (folder: string, options: Parameters<Stage['make']>[0]): ReturnType<Stage['make']> => {
    Object.assign(state, { base: join(folder, 'base.img'), logs: [] });
    const writeLog = (start: string): string => {
      const path = join(folder, `${start}.writes`);
      state.logs.push(path);
      return path;
    };
    const machine = await inQemu({ writeLog }).make(options);
    await execa('cp', ['--sparse=always', machine.disk, state.base]);
    state.partitions = machine.partitions;
    return machine;
  };
  return {
    stage: (folder) => ({ ...IN_QEMU, make: (options) => make(folder, options) }),
    recording: async () => {
      const { base, logs, partitions } = state;
      if (partitions === null) throw new Error('nothing was recorded');
      return {
        base,
        logs,
        partitions,
        images: { A: (await imageOf('1.0.0')).image, B: (await imageOf('1.1.0')).image },
      };
    },
  };
}
