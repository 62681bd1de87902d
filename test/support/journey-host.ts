import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rename, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { Machine, Running } from '../../scripts/support/machine.ts';
import { copyOut } from '../../scripts/support/machine-disk.ts';
import { AGENT_SOCKET } from '../../src/cli/composed.ts';
import { type BootState, decodeBoot } from '../../src/format/grubenv.ts';
import { type Journal, type Memory, readJournal, readMemory } from '../../src/format/journal.ts';
import { type AtEnd, atTestEnd } from './at-end.ts';

/** What a test does with the machine, and what it looks at: only from outside, or with what an administrator has on it. */
export interface JourneyHost {
  readonly machine: Machine;
  /** How long a test waits for what the host does by itself. */
  readonly patienceMs: number;
  /** Power on, all the way. */
  boot(): Promise<Running>;
  /** Power on, until it goes down by itself. */
  bootUntilItEnds(): Promise<'A' | 'B'>;
  /** An operator's `qx-update reboot`, until the host is down. */
  goDown(): Promise<void>;
  /** Of what the agent does by itself. */
  untilDown(why: string): Promise<void>;
  /** GRUB, and then a kernel that never gets anywhere. */
  panic(): Promise<'A' | 'B' | null>;
  /** In good order. */
  powerOff(): Promise<void>;
  /** At once: what was not flushed to the disk is lost. */
  cutPower(): Promise<void>;
  run(command: string, ...args: string[]): Promise<Ran>;
  /** qx-update, once the agent listens. */
  update(...args: string[]): Promise<Ran>;
  /** The document that qx-update prints with --json. */
  ask(...args: string[]): Promise<Record<string, unknown>>;
  untilAgentAnswers(): Promise<void>;
  /** Of a file; null when there is none. */
  sha256(path: string): Promise<string | null>;
  text(path: string): Promise<string | null>;
  /** Of as many bytes of the slot as the image has. */
  slotSha256(slot: 'A' | 'B', image: string): Promise<string>;
  /** Both copies of the boot environment, null where one is not sealed; and that they are equal. */
  environment(): Promise<BootState | null>;
  journal(): Promise<Journal | null>;
  memory(): Promise<Memory>;
  /** The process that a supervisor runs now. */
  pidOf(service: string): Promise<string>;
}

export interface Ran {
  readonly exitCode: number;
  readonly output: string;
}

export function journeyHost(machine: Machine, patienceMs: number, atEnd: AtEnd = atTestEnd): JourneyHost {
  const state: { running: Running | null } = { running: null };
  const off = async (): Promise<void> => {
    const { running } = state;
    state.running = null;
    await running?.[Symbol.asyncDispose]();
  };
  atEnd(off);
  const on = (): Running => {
    if (state.running === null) throw new Error('the host is switched off');
    return state.running;
  };
  const run: JourneyHost['run'] = (...line) => on().run(...line);
  const text: JourneyHost['text'] = async (path) => {
    const { exitCode, output } = await run('cat', path);
    return exitCode === 0 ? output : null;
  };
  const update: JourneyHost['update'] = (...args) => run('sh', '-c', ONCE_IT_LISTENS, 'update', ...args);
  const untilAgentAnswers = (): Promise<void> =>
    until('the agent answers', async () => (await update('status')).exitCode === 0, patienceMs);
  const bytes = async (path: string): Promise<Uint8Array> => new TextEncoder().encode((await text(path)) ?? '');

  return {
    machine,
    patienceMs,
    run,
    text,
    update,
    untilAgentAnswers,
    boot: async () => {
      if (state.running !== null) throw new Error('the host is on already');
      state.running = await machine.boot();
      return state.running;
    },
    bootUntilItEnds: () => bootUntilItEnds(machine),
    goDown: async () => {
      const { ended } = on();
      const { output } = await update('reboot');
      await untilDown(ended, output);
      await off();
    },
    untilDown: async (why) => {
      await untilDown(on().ended, why);
      await off();
    },
    panic: async () => slotIn((await machine.grub()).kernel?.cmdline),
    powerOff: async () => {
      await run('sync');
      await off();
    },
    cutPower: async () => {
      const copy = `${machine.disk}.cut`;
      await on().freeze();
      await execa('cp', ['--sparse=always', machine.disk, copy]);
      await off();
      await rename(copy, machine.disk);
    },
    ask: async (...args) => JSON.parse((await update(...args, '--json')).output.split('\n').at(-1) ?? ''),
    sha256: async (path) => {
      const { exitCode, output } = await run('sha256sum', path);
      return exitCode === 0 ? output.slice(0, 64) : null;
    },
    slotSha256: async (slot, image) => {
      await run('sync');
      const copy = `${machine.disk}.slot`;
      await copyOut(machine, machine.partitions[slot], (await stat(image)).size, copy);
      return sha256Of(copy);
    },
    environment: async () => {
      const [first, second] = [await bytes('/boot/grub/grubenv'), await bytes('/boot/grub/grubenv.bak')];
      return Buffer.compare(first, second) === 0 ? decodeBoot(first) : null;
    },
    journal: async () => {
      const found = await text('/quantix/ab-update-state.json');
      return found === null ? null : readJournal(new TextEncoder().encode(found));
    },
    memory: async () => readMemory(await bytes('/quantix/limiquantix/state.json')),
    pidOf: async (service) => (await text(`/run/openrc/options/${service}/child_pid`)) ?? '',
  };
}

async function bootUntilItEnds(machine: Machine): Promise<'A' | 'B'> {
  const running = await machine.boot({ mayEnd: true });
  try {
    await untilDown(running.ended);
    return running.slot;
  } finally {
    await running[Symbol.asyncDispose]();
  }
}

async function untilDown(ended: Promise<void>, why = ''): Promise<void> {
  const late = sleep(ENDS_WITHIN_MS, 'late', { ref: false });
  if ((await Promise.race([ended, late])) === 'late') throw new Error(`the host stays up: ${why}`);
}

const ENDS_WITHIN_MS = 90_000;
const UNTIL_MS = 60_000;

/** The shell looks for the socket: a machine made of software takes seconds to start a program that only asks. */
const ONCE_IT_LISTENS = `n=0
until [ -S ${AGENT_SOCKET} ] || [ $((n += 1)) -gt 300 ]; do sleep 0.2; done
exec qx-update "$@"`;

export async function until(what: string, holds: () => Promise<boolean>, timeoutMs = UNTIL_MS): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`not in ${timeoutMs} ms: ${what}`);
    await sleep(200);
  }
}

const slotIn = (cmdline = ''): 'A' | 'B' | null =>
  (/quantix\.slot=([AB])/.exec(cmdline)?.[1] as 'A' | 'B' | undefined) ?? null;

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  return hash.digest('hex');
}
