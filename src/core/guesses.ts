import { networkOf } from './network.ts';

/**
 * How long an address that sends wrong secrets has to wait. A few slips of the pen are free, then each wait is twice the one
 * before; while many addresses guess at once, only the first slip of each is free. An IPv6 network, of which one machine may
 * have every address, counts as one.
 */
export interface Guesses {
  /** 0: a wrong one counts now. */
  waitMs(address: string, nowMs: number): number;
  wrong(address: string, nowMs: number): void;
}

const FREE_GUESSES = 5;
const GUESSES_IN_ALL_PER_MINUTE = 100;
const MINUTE_MS = 60_000;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 5 * MINUTE_MS;
const FORGET_AFTER_MS = 60 * MINUTE_MS;
const MAX_ADDRESSES = 4096;

interface Guesser {
  readonly wrong: number;
  readonly lastMs: number;
  readonly blockedUntilMs: number;
}

export function createGuesses(): Guesses {
  const guessers = new Map<string, Guesser>();
  const inAll = { windowStartMs: 0, wrong: 0 };
  return {
    waitMs: (address, nowMs) => Math.max(0, (guessers.get(networkOf(address))?.blockedUntilMs ?? 0) - nowMs),

    wrong: (address, nowMs) => {
      const from = networkOf(address);
      if (nowMs - inAll.windowStartMs >= MINUTE_MS) Object.assign(inAll, { windowStartMs: nowMs, wrong: 0 });
      inAll.wrong++;
      const before = guessers.get(from);
      const wrong = (before !== undefined && nowMs - before.lastMs < FORGET_AFTER_MS ? before.wrong : 0) + 1;
      const free = inAll.wrong > GUESSES_IN_ALL_PER_MINUTE ? 0 : FREE_GUESSES;
      const waitMs = wrong <= free ? 0 : Math.min(FIRST_WAIT_MS * 2 ** (wrong - free - 1), LONGEST_WAIT_MS);
      // Taken out and put in again, so that the map's first key is the address that was quiet for longest.
      guessers.delete(from);
      guessers.set(from, { wrong, lastMs: nowMs, blockedUntilMs: nowMs + waitMs });
      if (guessers.size > MAX_ADDRESSES) guessers.delete(guessers.keys().next().value ?? from);
    },
  };
}
