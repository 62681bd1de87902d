import { type RetryPolicy, retryDelayMs } from '../core/retry.ts';
import { QxError } from '../errors.ts';
import type { Clock, Log, Random } from '../ports.ts';

/**
 * The same question to one server after another, until one answers. A server that failed may do better later; one that gave
 * a wrong answer is not asked again.
 */

export type Attempt<T> =
  | { readonly kind: 'done'; readonly value: T }
  | {
      readonly kind: 'later';
      readonly error: QxError;
      readonly retryAfterMs: number | null;
      readonly hasGained: boolean;
    }
  | { readonly kind: 'never'; readonly error: QxError };

export const done = <T>(value: T): Attempt<T> => ({ kind: 'done', value });
export const never = (error: QxError): Attempt<never> => ({ kind: 'never', error });
export const later = (error: QxError, retryAfterMs: number | null = null): Attempt<never> => ({
  kind: 'later',
  error,
  retryAfterMs,
  hasGained: false,
});

export interface AttemptPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface AttemptOptions {
  readonly bases: readonly string[];
  readonly policy: RetryPolicy;
  readonly signal?: AbortSignal | undefined;
}

/** @throws QxError the last server's error, when all are used up */
export async function askEach<T>(
  { clock, random, log }: AttemptPorts,
  { bases, policy, signal }: AttemptOptions,
  ask: (base: string) => Promise<Attempt<T>>,
): Promise<T> {
  const queue = [...bases];
  let failures = 0;
  for (;;) {
    const base = queue.shift();
    if (base === undefined) throw new QxError('CONFIG_INVALID', 'no update server is configured');
    const attempt = await ask(base);
    if (attempt.kind === 'done') return attempt.value;
    if (attempt.kind === 'never') {
      if (queue.length === 0) throw attempt.error;
      continue;
    }
    queue.push(base);
    // Failures in a row: a line that breaks now and then but moves forward may take as long as it needs.
    failures = attempt.hasGained ? 1 : failures + 1;
    const delayMs = retryDelayMs(policy, failures, random.unit(), attempt.retryAfterMs);
    if (delayMs === null) throw attempt.error;
    log.info('server_failed', { base, failures, code: attempt.error.code, detail: attempt.error.message });
    // The next server is asked at once; only after all of them failed is there something to wait for.
    if (failures % queue.length === 0) await clock.sleep(delayMs, signal);
  }
}
