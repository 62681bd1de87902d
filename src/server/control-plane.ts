import { createHmac } from 'node:crypto';
import { retryDelayMs } from '../core/retry.ts';
import { asQxError, QxError } from '../errors.ts';
import { CONTROL_PLANE_ROUTES, type HostOrder } from '../format/control-plane.ts';
import { pathOf } from '../format/route.ts';
import type { Clock, HttpLimits, Log, Post, Random } from '../ports.ts';
import type { Change, MaintenanceTable, NodeTable, OutboxTable, Reading, Store } from './store.ts';

/**
 * What the control plane is told. It is kept in the transaction that decided it, and sent until it was taken: nothing is lost
 * when either side is down. What concerns one host goes out in order.
 */

export async function tellControlPlane(
  change: Change,
  node: NodeTable,
  row: MaintenanceTable,
  kind: OutboxTable['kind'],
  nowMs: number,
): Promise<void> {
  const last = await change
    .selectFrom('outbox')
    .select('sequence')
    .where('node_id', '=', node.id)
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst();
  const certificate = await change
    .selectFrom('node_certificate')
    .select('fingerprint')
    .where('node_id', '=', node.id)
    .orderBy('not_after_ms', 'desc')
    .limit(1)
    .executeTakeFirst();
  const order: HostOrder = {
    node_id: node.name,
    node_uuid: node.id,
    certificate_fingerprint: certificate?.fingerprint ?? null,
    maintenance_id: row.id,
    epoch: row.epoch,
    target_version: row.target_version,
  };
  const sequence = (last?.sequence ?? 0) + 1;
  const fresh = { created_ms: nowMs, due_ms: 0, attempts: 0, delivered_ms: null, error: null };
  const message = { node_id: node.id, sequence, kind, body: JSON.stringify(order), ...fresh };
  await change.insertInto('outbox').values(message).execute();
}

/** Why a host's next message did not arrive yet; null when there is none, or it was not tried. */
export async function undelivered(db: Reading, nodeId: string): Promise<string | null> {
  const head = await db
    .selectFrom('outbox')
    .select('error')
    .where('node_id', '=', nodeId)
    .where('delivered_ms', 'is', null)
    .orderBy('sequence')
    .limit(1)
    .executeTakeFirst();
  return head?.error ?? null;
}

export interface Deliverer {
  readonly store: Store;
  readonly http: Post;
  /** Without a slash at its end. */
  readonly url: string;
  readonly secret: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const EVERY_MS = 1000;
const AT_ONCE = 16;
/** A server that dies in the middle leaves its message to the others after so long. */
const LEASE_MS = 60_000;
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
      const { code, message } = asQxError(error);
      deliverer.log.warn('delivery_failed', { code, detail: message });
      return 0;
    });
    if (sent === 0) await deliverer.clock.sleep(EVERY_MS, signal).catch(() => undefined);
  }
}

/** Answers how many messages were tried. */
export async function deliverDue(deliverer: Deliverer, signal?: AbortSignal): Promise<number> {
  const due = await claim(deliverer);
  await Promise.all(due.map((message) => deliver(deliverer, message, signal)));
  return due.length;
}

/** Each is busy with its own: two servers never send the same one at the same time. */
function claim({ store, clock }: Deliverer): Promise<readonly OutboxTable[]> {
  const nowMs = clock.nowMs();
  return store.change(async (change) => {
    const heads = change
      .selectFrom('outbox as o')
      .selectAll('o')
      .where('o.delivered_ms', 'is', null)
      .where('o.due_ms', '<=', nowMs)
      .where(({ not, exists, selectFrom }) =>
        not(
          exists(
            selectFrom('outbox as before')
              .select('before.sequence')
              .whereRef('before.node_id', '=', 'o.node_id')
              .whereRef('before.sequence', '<', 'o.sequence')
              .where('before.delivered_ms', 'is', null),
          ),
        ),
      )
      .orderBy('o.due_ms')
      .limit(AT_ONCE);
    const due = await (store.engine === 'postgres' ? heads.forUpdate().skipLocked() : heads).execute();
    for (const { node_id, sequence } of due) {
      const taken = { due_ms: nowMs + LEASE_MS };
      await change
        .updateTable('outbox')
        .set(taken)
        .where('node_id', '=', node_id)
        .where('sequence', '=', sequence)
        .execute();
    }
    return due;
  });
}

async function deliver(deliverer: Deliverer, message: OutboxTable, signal?: AbortSignal): Promise<void> {
  const { store, clock, log, random } = deliverer;
  const attempts = message.attempts + 1;
  const failure = await send(deliverer, message, signal).then(
    () => null,
    (error: unknown) => asQxError(error).message,
  );
  const nowMs = clock.nowMs();
  const delayMs = retryDelayMs(POLICY, attempts, random.unit()) ?? POLICY.maxDelayMs;
  const outcome = failure === null ? { delivered_ms: nowMs, error: null } : { due_ms: nowMs + delayMs, error: failure };
  const { node_id, sequence, kind } = message;
  await store.change((change) =>
    change
      .updateTable('outbox')
      .set({ attempts, ...outcome })
      .where('node_id', '=', node_id)
      .where('sequence', '=', sequence)
      .execute(),
  );
  if (failure === null) log.info('control_plane_told', { kind, node_id, sequence, attempts });
  else log.warn('control_plane_not_told', { kind, node_id, sequence, attempts, detail: failure });
}

async function send(
  { http, url, secret, clock }: Deliverer,
  message: OutboxTable,
  signal?: AbortSignal,
): Promise<void> {
  const { node_id }: HostOrder = JSON.parse(message.body);
  const path = pathOf(CONTROL_PLANE_ROUTES[message.kind], { node_id }, {});
  const id = `${message.node_id}-${message.sequence}`;
  const headers = { 'content-type': 'application/json', ...signed(secret, id, message.body, clock.nowMs()) };
  const request = { headers, body: message.body, limits: LIMITS, ...(signal === undefined ? {} : { signal }) };
  const { status, body } = await http.post(url + path, request);
  await body[Symbol.asyncIterator]().return?.();
  if (status < 200 || status > 299) throw new QxError('SERVER_REFUSED', `the control plane answered ${status}`);
}

/** As Standard Webhooks has it. */
export function signed(secret: string, id: string, body: string, nowMs: number): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1000));
  const signature = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}
