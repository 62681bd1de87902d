import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import type { HostRoot } from './host-root.ts';

/** The time of the scripts on a host: their `sleep` ends when the test says so, and never by itself. */
export interface ShellClock {
  /** Ends one sleep after the other, so many of them, each once it has begun; then the next one has begun. */
  pass(sleeps: number): Promise<void>;
  /** Ends so many sleeps, those under way and those to come; nobody is waited for. */
  give(sleeps: number): Promise<void>;
  /** What the scripts asked to sleep for, in their order. */
  asked(): Promise<readonly string[]>;
}

const SLEEP = `
sleep() {
  printf '%s\\n' "$1" >>"$QX_ROOT/asked"
  read -r _ <"$QX_ROOT/clock"
}
`;
const FUNCTIONS = 'usr/lib/quantix/functions.sh';

export async function shellClock(root: HostRoot): Promise<ShellClock> {
  const clock = join(root.path, 'clock');
  await execa('mkfifo', [clock]);
  // For reading as well: it then opens at once, and no reader of the scripts finds it closed.
  const fifo = await open(clock, 'r+');
  onTestFinished(() => fifo.close());
  await root.write(FUNCTIONS, `${await root.read(FUNCTIONS)}${SLEEP}`);
  const give = async (sleeps: number): Promise<void> => void (await fifo.write('\n'.repeat(sleeps)));
  const asked = async (): Promise<readonly string[]> => ((await root.read('asked')) ?? '').split('\n').slice(0, -1);
  const untilAsked = (times: number): Promise<void> =>
    expect.poll(async () => (await asked()).length, { interval: 5 }).toBeGreaterThanOrEqual(times);
  return {
    give,
    asked,
    pass: async (sleeps) => {
      await untilAsked(1);
      for (let i = 0; i < sleeps; i++) {
        const before = (await asked()).length;
        await give(1);
        await untilAsked(before + 1);
      }
    },
  };
}
