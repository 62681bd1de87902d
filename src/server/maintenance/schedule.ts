import { fieldsOf, isCode } from '../../errors.ts';
import { oneLine } from '../../format/text.ts';
import type { Log } from '../../ports.ts';
import { HEARD_EVERY_MS } from '../places.ts';
import type { Change, MaintenanceTable } from '../store.ts';
import { mendTimes } from '../times.ts';
import { beginDrain, grantWaiting, holderOf, release } from './grants.ts';
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
      schedule.log.warn('schedule_failed', fieldsOf(error));
    });
    await clock.sleep(EVERY_MS, signal).catch(() => undefined);
  }
}

export async function dueNow({ maintenance: m, drainTimeoutMs, log }: Schedule): Promise<void> {
  const nowMs = m.clock.nowMs();
  const { db } = m.store;
  // First: what is due is told by these.
  await mendTimes({ store: m.store, log }, nowMs);
  const lapsed = await db
    .selectFrom('maintenance')
    .select('node_id')
    .where('state', '=', 'ready')
    .where('expires_ms', '<', nowMs)
    .execute();
  for (const { node_id } of lapsed) await goOn(log, node_id, () => lapse(m, node_id));
  const stuck = await db
    .selectFrom('maintenance')
    .select('node_id')
    .where('state', '=', 'draining')
    .where('draining_ms', '<', nowMs - drainTimeoutMs)
    .execute();
  for (const { node_id } of stuck) await goOn(log, node_id, () => giveUp(m, node_id, drainTimeoutMs, log));
  const groups = await db
    .selectFrom('maintenance')
    .select('fleet_group')
    .distinct()
    .where('state', '=', 'requested')
    .execute();
  for (const { fleet_group } of groups)
    await goOn(log, fleet_group, () => grantWaiting(m, fleet_group, { actor: ACTOR, nowMs }));
}

/** One about which nothing can be done keeps nobody else waiting; without its database nothing can be done about any. */
async function goOn(log: Log, what: string, work: () => Promise<unknown>): Promise<void> {
  await work().catch((error: unknown) => {
    if (isCode(error, 'STATE_UNREACHABLE')) throw error;
    log.warn('schedule_failed', { of: what, ...fieldsOf(error) });
  });
}

/** What the host was promised may not hold any more. One that was silent all the time would be drained anew for ever. */
async function lapse(m: Maintenance, nodeId: string): Promise<void> {
  await aboutHost(m, { nodeId, actor: ACTOR, places: 'may change' }, async ({ change, node, row, doing }) => {
    if (row === undefined || !isLapsed(row, doing.nowMs)) return;
    if (await wasHeard(change, node.id, row)) return void (await beginDrain(m, change, { node, row }, 'lapse', doing));
    const error = 'the host was granted its turn, and was not heard of until that had run out';
    const over = await move(change, row, 'cancel', doing, { completed_ms: doing.nowMs, error });
    await release(m, change, { node, row: over }, doing.nowMs);
  });
}

async function wasHeard(change: Change, nodeId: string, { ready_ms }: MaintenanceTable): Promise<boolean> {
  const place = await change
    .selectFrom('place')
    .select('heard_ms')
    .where('holder', '=', holderOf(nodeId))
    .executeTakeFirst();
  return (place?.heard_ms ?? 0) >= (ready_ms ?? 0) - HEARD_EVERY_MS;
}

/** Nothing was begun: VMs may come back, and the place is for others. */
async function giveUp(m: Maintenance, nodeId: string, timeoutMs: number, log: Log): Promise<void> {
  await aboutHost(m, { nodeId, actor: ACTOR, places: 'may change' }, async ({ change, node, row, doing }) => {
    if (row?.state !== 'draining') return;
    if (doing.nowMs - (row.draining_ms ?? 0) < timeoutMs) return;
    const error = `the drain did not end within ${Math.round(timeoutMs / 60_000)} minutes${stuckIn(row)}`;
    const over = await move(change, row, 'fail', doing, { completed_ms: doing.nowMs, error });
    await release(m, change, { node, row: over }, doing.nowMs);
    log.warn('drain_given_up', { node_id: node.name, detail: error });
  });
}

/** Which VMs are in the way, as far as anybody has said. */
function stuckIn({ failed_vms, remaining_vms }: MaintenanceTable): string {
  const failed = (JSON.parse(failed_vms) as { vm: string; reason?: string }[]).map(({ vm, reason }) =>
    reason === undefined ? vm : `${vm}: ${reason}`,
  );
  const named = failed.length > 0 ? failed : (JSON.parse(remaining_vms) as string[]);
  if (named.length === 0) return '';
  const more = named.length > MOST_NAMED ? `, and ${named.length - MOST_NAMED} more` : '';
  return oneLine(`; still there: ${named.slice(0, MOST_NAMED).join(', ')}${more}`).slice(0, MAX_STUCK);
}

const MOST_NAMED = 5;
const MAX_STUCK = 1000;
