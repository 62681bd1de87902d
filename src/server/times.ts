import { sql } from 'kysely';
import { INVITE_MAX_TTL_S } from '../format/fleet-routes.ts';
import type { Log } from '../ports.ts';
import { record } from './audit.ts';
import { lockGate } from './places.ts';
import type { Change, Reading, Store } from './store.ts';

/**
 * What began in the future was written while the clock of a server was ahead. Since that was put right it has begun now, and lasts
 * as long as it was granted for: a deadline that is kept as a date alone would be as far away as the clock was wrong.
 */

/** Two servers of one state may differ by so much. */
const SLACK_MS = 60_000;
/** No order to the control plane waits longer for its next try, and no server is busy longer with one. */
const LONGEST_WAIT_MS = 60_000;

/** Answers how many rows were put right. */
export async function mendTimes({ store, log }: { store: Store; log: Log }, nowMs: number): Promise<number> {
  if (!(await isAnyAhead(store.db, nowMs))) return 0;
  const mended = await store.change(async (change) => {
    await lockGate(store, change);
    const rows = await mendAll(change, nowMs);
    const fields = { rows };
    const event = { subject: 'clock', actor: 'schedule', event: 'times_put_right', fields, atMs: nowMs };
    // Another server was faster.
    if (rows > 0) await record(change, event);
    return rows;
  });
  log.warn('times_put_right', {
    rows: mended,
    detail: 'the clock of this server, or of another one of its state, was ahead',
  });
  return mended;
}

const limitOf = (nowMs: number): number => nowMs + SLACK_MS;
/** Of an invitation that does not say when it was made. */
const longestInviteMs = (nowMs: number): number => limitOf(nowMs) + INVITE_MAX_TTL_S * 1000;
const longestWaitMs = (nowMs: number): number => limitOf(nowMs) + LONGEST_WAIT_MS;

async function isAnyAhead(db: Reading, nowMs: number): Promise<boolean> {
  const limit = limitOf(nowMs);
  const { rows } = await sql<{ found: number }>`
    select 1 as found where exists (select 1 from place where granted_ms > ${limit} or heard_ms > ${limit})
      or exists (select 1 from node_invite where node_id is null
        and (created_ms > ${limit} or (created_ms is null and expires_ms > ${longestInviteMs(nowMs)})))
      or exists (select 1 from outbox where delivered_ms is null and due_ms > ${longestWaitMs(nowMs)})
      or exists (select 1 from maintenance where (state = 'requested' and requested_ms > ${limit})
        or (state = 'draining' and draining_ms > ${limit}) or (state = 'ready' and ready_ms > ${limit}))`.execute(db);
  return rows.length > 0;
}

async function mendAll(change: Change, nowMs: number): Promise<number> {
  const limit = limitOf(nowMs);
  const invites = change.updateTable('node_invite').where('node_id', 'is', null);
  const maintenance = change.updateTable('maintenance');
  const places = change.updateTable('place');
  const results = [
    await invites
      .set({ created_ms: nowMs, expires_ms: sql`${nowMs} + expires_ms - created_ms` })
      .where('created_ms', '>', limit)
      .executeTakeFirst(),
    await invites
      .set({ expires_ms: nowMs + INVITE_MAX_TTL_S * 1000 })
      .where('created_ms', 'is', null)
      .where('expires_ms', '>', longestInviteMs(nowMs))
      .executeTakeFirst(),
    // Whoever asked by the wrong clock would be the last for weeks.
    await maintenance
      .set({ requested_ms: nowMs })
      .where('state', '=', 'requested')
      .where('requested_ms', '>', limit)
      .executeTakeFirst(),
    await maintenance
      .set({ draining_ms: nowMs })
      .where('state', '=', 'draining')
      .where('draining_ms', '>', limit)
      .executeTakeFirst(),
    await maintenance
      .set({ ready_ms: nowMs, expires_ms: sql`${nowMs} + expires_ms - ready_ms` })
      .where('state', '=', 'ready')
      .where('ready_ms', '>', limit)
      .executeTakeFirst(),
    await places.set({ granted_ms: nowMs }).where('granted_ms', '>', limit).executeTakeFirst(),
    await places.set({ heard_ms: nowMs }).where('heard_ms', '>', limit).executeTakeFirst(),
    await change
      .updateTable('outbox')
      .set({ due_ms: nowMs })
      .where('delivered_ms', 'is', null)
      .where('due_ms', '>', longestWaitMs(nowMs))
      .executeTakeFirst(),
  ];
  return results.reduce((sum, { numUpdatedRows }) => sum + Number(numUpdatedRows), 0);
}
