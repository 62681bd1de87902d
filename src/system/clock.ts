import { randomInt } from 'node:crypto';
import { setTimeout as timer } from 'node:timers/promises';
import { QxError } from '../errors.ts';
import type { Clock, Process, Random } from '../ports.ts';

/** Node fires a longer timer at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const PROBE_TIMEOUT_MS = 5_000;

/** The machine's clock. A host that lives in a folder shares it, so there is no root to prefix. */
export function hostClock(process: Process): Clock {
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep,
    isSynchronised: async () => (await kernelIsSynchronised(process)) || (await chronyIsSynchronised(process)),
  };
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    for (let left = ms; left > 0; left -= LONGEST_TIMER_MS) {
      await timer(Math.min(left, LONGEST_TIMER_MS), undefined, signal === undefined ? {} : { signal });
    }
  } catch (error) {
    throw new QxError('CANCELLED', 'waiting was cancelled', { cause: error });
  }
}

const STA_UNSYNC = 0x40;

/** The kernel's own flag, which ntpd, and chronyd with `rtcsync`, clear. Nothing in /proc or /sys shows it. */
async function kernelIsSynchronised(process: Process): Promise<boolean> {
  const status = /status:\s+([0-9]+)/.exec(await outputOf(process, ['busybox', 'adjtimex']))?.[1];
  return status !== undefined && (Number(status) & STA_UNSYNC) === 0;
}

/** Without `rtcsync` chronyd keeps the time but leaves the flag alone. */
async function chronyIsSynchronised(process: Process): Promise<boolean> {
  return /^Leap status\s*:\s*(?!Not synchronised)\S/m.test(await outputOf(process, ['chronyc', '-n', 'tracking']));
}

/** Empty when the program is missing or fails: what nobody vouches for counts as not synchronised. */
async function outputOf(process: Process, argv: readonly [string, ...string[]]): Promise<string> {
  const result = await process.run(argv, { timeoutMs: PROBE_TIMEOUT_MS }).catch(() => null);
  return result?.exitCode === 0 ? result.stdout : '';
}

const ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
const ID_LENGTH = 16;
const UNIT_STEPS = 2 ** 47;

export const hostRandom = (): Random => ({
  id: () => Array.from({ length: ID_LENGTH }, () => ID_ALPHABET.charAt(randomInt(ID_ALPHABET.length))).join(''),
  unit: () => randomInt(UNIT_STEPS) / UNIT_STEPS,
});
