import { QxError } from '../errors.ts';

/** Work that many may ask for at once and that is done one time for all of them. */
export interface Shared<T> {
  /** Whoever gives up waiting does not end it for the others. */
  ask(signal?: AbortSignal): Promise<T>;
  /** Who asks from now on gets new work, also while the old one still goes on. */
  forget(): void;
}

export function shared<T>(work: () => Promise<T>): Shared<T> {
  const now: { running: Promise<T> | null } = { running: null };
  return {
    ask: (signal) => {
      const running = now.running ?? work();
      now.running = running;
      const end = (): void => {
        if (now.running === running) now.running = null;
      };
      running.then(end, end);
      return whileWanted(running, signal);
    },
    forget: () => {
      now.running = null;
    },
  };
}

async function whileWanted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  const left = Promise.withResolvers<never>();
  const leave = (): void => left.reject(new QxError('CANCELLED', 'nobody waits for this any more'));
  if (signal.aborted) leave();
  signal.addEventListener('abort', leave);
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
