import { asQxError, fieldsOf, type QxError } from '../errors.ts';
import type { Listening } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';

/**
 * A network address that is not free, or not there yet, must not end the agent: node-run would count its starts and take a
 * good version back. The Unix socket is enough to repair the host by.
 */

const AGAIN_MS = 30_000;

export interface PatientListening {
  /** Null when the first attempt failed. */
  readonly port: number | null;
  close(graceMs: number): Promise<void>;
  /** Why nothing listens yet; null when something does. */
  failure(): QxError | null;
  /** Of what listens by then. */
  renew(tls: Parameters<Listening['renew']>[0]): void;
}

/** Answers after the first attempt; goes on trying until one works or it is closed. Never throws. */
export async function listenPatiently(
  listen: () => Promise<Listening>,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
): Promise<PatientListening> {
  const stop = new AbortController();
  const now: { listening: Listening | null; failure: QxError | null } = { listening: null, failure: null };
  const attempt = (): Promise<Listening | null> =>
    listen().then(
      (listening) => {
        now.failure = null;
        return listening;
      },
      (error: unknown) => {
        now.failure = asQxError(error);
        log.warn('listen_failed', { ...fieldsOf(error), againInMs: AGAIN_MS });
        return null;
      },
    );
  const again = async (): Promise<Listening | null> => {
    for (;;) {
      await clock.sleep(AGAIN_MS, stop.signal).catch(() => undefined);
      if (stop.signal.aborted) return null;
      const listening = await attempt();
      if (listening === null) continue;
      now.listening = listening;
      log.info('listening', { port: listening.port });
      return listening;
    }
  };
  const first = await attempt();
  now.listening = first;
  const last = first === null ? again() : Promise.resolve(first);
  return {
    port: first?.port ?? null,
    failure: () => now.failure,
    renew: (tls) => now.listening?.renew(tls),
    close: async (graceMs) => {
      stop.abort();
      await (await last)?.close(graceMs);
    },
  };
}
