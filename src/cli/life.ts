import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Log } from '../ports.ts';

/** What a process that serves does with signals, and how it ends: soon, whoever is still connected. */

export interface Signals {
  /** The first SIGTERM or SIGINT; after it they have their usual effect and end the program at once. */
  readonly stop: Promise<string>;
  /** Told of each SIGHUP: files that were exchanged are to be read again. */
  onReload(act: () => void): void;
}

/** SIGHUP, which tools for logs and certificates send, would end the process; SIGUSR1 would open Node's debugger. */
export function listenToSignals(log: Log): Signals {
  const reloads: (() => void)[] = [];
  process.on('SIGHUP', () => {
    log.info('reloading', { signal: 'SIGHUP' });
    for (const act of reloads) act();
  });
  for (const name of ['SIGUSR1', 'SIGUSR2'] as const)
    process.on(name, () => log.info('signal_ignored', { signal: name }));
  return { stop: stopSignal(), onReload: (act) => void reloads.push(act) };
}

async function stopSignal(): Promise<string> {
  const heard = new AbortController();
  const received = ['SIGTERM', 'SIGINT'].map((name) => once(process, name, { signal: heard.signal }).then(() => name));
  const first = Promise.race(received);
  // The one that lost the race ends by being aborted, which is no failure.
  for (const other of received) other.catch(() => undefined);
  return first.finally(() => heard.abort());
}

/** What is under way comes to its next safe point within this time, or is cut as by a crash, which everything here outlives. */
const END_WITHIN_MS = 30_000;

export interface Life {
  /** From here on a sign of life means that the socket is there. */
  serving(): void;
  /** It ends by itself, or within `END_WITHIN_MS`. */
  ending(): void;
  /** For the heartbeat. */
  isWell(): boolean;
}

/** The end begins with the first signal, also where the start has not come as far as to look at it. */
export function lifeOf(socket: string, signals: Signals, log: Log): Life {
  const now = { isServing: false, isEnding: false };
  void signals.stop.then(() => life.ending());
  const life: Life = {
    serving: () => void Object.assign(now, { isServing: true }),
    ending: () => {
      if (now.isEnding) return;
      now.isEnding = true;
      setTimeout(() => {
        log.warn('stop_cut', {
          detail: `what was under way did not end within ${END_WITHIN_MS / 1000} s`,
          next: 'nothing: it is gone on with at the next start',
        });
        process.exit(1);
      }, END_WITHIN_MS).unref();
    },
    isWell: () => !now.isEnding && (!now.isServing || existsSync(socket)),
  };
  return life;
}
