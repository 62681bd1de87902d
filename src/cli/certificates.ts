import { X509Certificate } from 'node:crypto';
import { asQxError } from '../errors.ts';
import type { CertificateState } from '../ports/serving.ts';
import type { Clock, Log } from '../ports.ts';

/**
 * Certificates that are exchanged while a program runs: whoever renews them writes files, and perhaps sends SIGHUP. The new ones count
 * from the next connection on; where they cannot be used, half of a pair for one, the old ones go on.
 */

export interface Tls {
  /** PEM. */
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  readonly clientCa?: Uint8Array;
}

export interface Renewing<T extends Tls> {
  /** Reads the files. @throws QxError */
  readonly load: () => Promise<T>;
  /** Takes them. @throws QxError when they cannot be used, and nothing has changed then */
  readonly take: (tls: T) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Renewal {
  state(): CertificateState;
  /** Looks at once. */
  look(): Promise<void>;
  /** Looks every minute, until the signal. */
  run(signal: AbortSignal): Promise<void>;
}

const LOOK_EVERY_MS = 60_000;
const DAY_MS = 86_400_000;
/** Warned of once a day. */
const WARN_BEFORE_MS = 14 * DAY_MS;

/** `first` null: none could be used so far. */
export function keepRenewed<T extends Tls>(first: T | null, { load, take, clock, log }: Renewing<T>): Renewal {
  const now: { tls: T | null; fault: string | null; warnedMs: number | null } = {
    tls: first,
    fault: null,
    warnedMs: null,
  };

  const state = (): CertificateState => {
    const notAfterMs = notAfterOf(now.tls);
    const isSoonOver = notAfterMs !== null && notAfterMs - clock.nowMs() <= WARN_BEFORE_MS;
    return { notAfterMs, isSoonOver, fault: now.fault };
  };

  const look = async (): Promise<void> => {
    try {
      const tls = await load();
      if (now.tls === null || !isSame(tls, now.tls)) {
        take(tls);
        const isFirst = now.tls === null;
        now.tls = tls;
        if (!isFirst) log.info('certificate_renewed', { not_after: endOf(tls) });
      }
      now.fault = null;
    } catch (error) {
      const { code, message } = asQxError(error);
      const next = now.tls === null ? 'nothing listens on the network before it can be used' : 'the one before goes on';
      if (message !== now.fault) log.warn('certificate_not_taken', { code, detail: message, next });
      now.fault = message;
    }
    warn();
  };

  const warn = (): void => {
    const monotonicMs = clock.monotonicMs();
    if (!state().isSoonOver) return;
    if (now.warnedMs !== null && monotonicMs - now.warnedMs < DAY_MS) return;
    now.warnedMs = monotonicMs;
    log.warn('certificate_expires', {
      not_after: endOf(now.tls),
      next: 'renew its files; they are taken without a restart',
    });
  };

  return {
    state,
    look,
    run: async (signal) => {
      warn();
      while (!signal.aborted) {
        await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
        if (!signal.aborted) await look();
      }
    },
  };
}

const isSame = (one: Tls, other: Tls): boolean => filesOf(one) === filesOf(other);

const filesOf = (tls: Tls): string =>
  Object.entries(tls)
    .flatMap(([name, bytes]) =>
      bytes instanceof Uint8Array ? [`${name} ${Buffer.from(bytes).toString('base64')}`] : [],
    )
    .sort()
    .join('\n');

const notAfterOf = (tls: Tls | null): number | null => {
  try {
    return tls === null ? null : new X509Certificate(tls.cert).validToDate.getTime();
  } catch {
    return null;
  }
};

const endOf = (tls: Tls | null): string => new Date(notAfterOf(tls) ?? Number.NaN).toJSON() ?? 'unknown';
