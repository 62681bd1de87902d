import { retryDelayMs } from '../core/retry.ts';
import { asQxError, fieldsOf, QxError } from '../errors.ts';
import { CONTROL_PLANE_ROUTES, type HostOrder } from '../format/control-plane.ts';
import type { HttpLimits, Log, Random } from '../ports.ts';
import { type Attempt, claimDue, settle } from './control-plane/outbox.ts';
import { type ControlPlane, postSigned } from './control-plane/signed.ts';
import type { OutboxTable, Store } from './store.ts';

/** Sends the control plane what it has to be told, until it was taken. */

export interface Deliverer extends ControlPlane {
  readonly store: Store;
  readonly random: Random;
  readonly log: Log;
}

const EVERY_MS = 1000;
const POLICY = { maxAttempts: Number.POSITIVE_INFINITY, firstDelayMs: 1000, maxDelayMs: 60_000, maxRetryAfterMs: 0 };
const LIMITS: HttpLimits = {
  maxBytes: 64 << 10,
  connectTimeoutMs: 5000,
  headersTimeoutMs: 30_000,
  minBytesPerWindow: 1,
  windowMs: 10_000,
};

/** Until the signal. */
export async function runDelivery(deliverer: Deliverer, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const sent = await deliverDue(deliverer, signal).catch((error: unknown) => {
      deliverer.log.warn('delivery_failed', fieldsOf(error));
      return 0;
    });
    if (sent === 0) await deliverer.clock.sleep(EVERY_MS, signal).catch(() => undefined);
  }
}

/** Answers how many messages were tried. */
export async function deliverDue(deliverer: Deliverer, signal?: AbortSignal): Promise<number> {
  const due = await claimDue(deliverer.store, deliverer.clock.nowMs());
  const attempts = await Promise.all(due.map((message) => deliver(deliverer, message, signal)));
  // One transaction: as one for each, they took every connection for a moment, and whoever asked for a place waited behind them.
  if (attempts.length > 0) await settle(deliverer.store, attempts);
  for (const attempt of attempts) note(deliverer.log, attempt);
  return due.length;
}

async function deliver(deliverer: Deliverer, message: OutboxTable, signal?: AbortSignal): Promise<Attempt> {
  const { clock, random } = deliverer;
  const attempts = message.attempts + 1;
  const failure = await send(deliverer, message, signal).then(
    () => null,
    (error: unknown) => asQxError(error).message,
  );
  const nowMs = clock.nowMs();
  const delayMs = retryDelayMs(POLICY, attempts, random.unit()) ?? POLICY.maxDelayMs;
  const outcome = failure === null ? { delivered_ms: nowMs, error: null } : { due_ms: nowMs + delayMs, error: failure };
  return { message, outcome: { attempts, ...outcome } };
}

function note(log: Log, { message: { kind, node_id, sequence }, outcome: { attempts, error } }: Attempt): void {
  if (error === null) log.info('control_plane_told', { kind, node_id, sequence, attempts });
  else log.warn('control_plane_not_told', { kind, node_id, sequence, attempts, detail: error });
}

async function send(plane: ControlPlane, message: OutboxTable, signal?: AbortSignal): Promise<void> {
  const { node_id }: HostOrder = JSON.parse(message.body);
  const { status, body } = await postSigned(plane, CONTROL_PLANE_ROUTES[message.kind], {
    id: `${message.node_id}-${message.sequence}`,
    node_id,
    body: message.body,
    limits: LIMITS,
    ...(signal === undefined ? {} : { signal }),
  });
  await body[Symbol.asyncIterator]().return?.();
  if (status < 200 || status > 299)
    throw new QxError('SERVER_REFUSED', `the control plane answered ${status}`, {
      next: 'see its log; an order that it never takes is given up by qx-fleet order drop',
    });
}
