import { asQxError } from '../../errors.ts';
import type { Log } from '../../ports.ts';
import { beginDrain, grantWaiting } from './grants.ts';
import { aboutHost, isLapsed, type Maintenance } from './host.ts';
import { move } from './rows.ts';

/** What is due without anybody asking. Every server does it; that two do it at once changes nothing. */

export interface Schedule {
  readonly maintenance: Maintenance;
  readonly drainTimeoutMs: number;
  readonly log: Log;
}

const EVERY_MS = 5000;
const ACTOR = 'schedule';

/** Until the signal. A round that failed is made good by the next one. */
export async function runSchedule(schedule: Schedule, signal: AbortSignal): Promise<void> {
  const { clock } = schedule.maintenance;
  while (!signal.aborted) {
    await dueNow(schedule).catch((error: unknown) => {
      const { code, message } = asQxError(error);
      schedule.log.warn('schedule_failed', { code, detail: message });
    });
    await clock.sleep(EVERY_MS, signal).catch(() => undefined);
  }
}

export async function dueNow({ maintenance: m, drainTimeoutMs }: Schedule): Promise<void> {
  const nowMs = m.clock.nowMs();
  const { db } = m.store;
  const lapsed = await db
    .selectFrom('maintenance')
    .select('node_id')
    .where('state', '=', 'ready')
    .where('expires_ms', '<', nowMs)
    .execute();
  for (const { node_id } of lapsed) await lapse(m, node_id);
  const stuck = await db
    .selectFrom('maintenance')
    .select('node_id')
    .where('state', '=', 'draining')
    .where('draining_ms', '<', nowMs - drainTimeoutMs)
    .execute();
  for (const { node_id } of stuck) await giveUp(m, node_id, drainTimeoutMs);
  const groups = await db
    .selectFrom('maintenance')
    .select('fleet_group')
    .distinct()
    .where('state', '=', 'requested')
    .execute();
  for (const { fleet_group } of groups) await grantWaiting(m, fleet_group, { actor: ACTOR, nowMs });
}

/** What the host was promised may not hold any more. */
async function lapse(m: Maintenance, nodeId: string): Promise<void> {
  await aboutHost(m, { nodeId, actor: ACTOR, places: 'stay' }, async ({ change, node, row, doing }) => {
    if (row === undefined || !isLapsed(row, doing.nowMs)) return;
    await beginDrain(m, change, { node, row }, 'lapse', doing);
  });
}

/** The host stays cordoned and keeps its place: half of its VMs may have moved. */
async function giveUp(m: Maintenance, nodeId: string, timeoutMs: number): Promise<void> {
  await aboutHost(m, { nodeId, actor: ACTOR, places: 'stay' }, async ({ change, row, doing }) => {
    if (row?.state !== 'draining') return;
    if (doing.nowMs - (row.draining_ms ?? 0) < timeoutMs) return;
    const error = `the drain did not end within ${Math.round(timeoutMs / 60_000)} minutes`;
    await move(change, row, 'fail', doing, { completed_ms: doing.nowMs, error });
  });
}
