import { fieldsOf } from '../../errors.ts';
import type { Clock, Log } from '../../ports.ts';
import { hashOf } from '../audit.ts';
import type { AuditHeadTable, Change, Store } from '../store.ts';

/**
 * A chain alone does not tell that its last events were taken away, or all of it. So where chains end is written down every minute, in
 * a chain of its own over all subjects, by one of the servers: whichever holds the row of the sealer.
 */

interface Sealer {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

const EVERY_MS = 60_000;
/** Heads in one seal: what is read and hashed at once. */
const AT_ONCE = 1000;

/** As a seal keeps it. */
export type SealedHead = readonly [subject: string, sequence: number, hash: string];

/** Until the signal. What was missed is sealed by the next round. */
export async function runSealing(sealer: Sealer, signal: AbortSignal): Promise<void> {
  const { clock, log } = sealer;
  while (!signal.aborted) {
    await clock.sleep(EVERY_MS, signal).catch(() => undefined);
    if (signal.aborted) return;
    await sealDue(sealer).catch((error: unknown) => {
      log.warn('sealing_failed', fieldsOf(error));
    });
  }
}

/** Answers how many chains were sealed: none where nothing went on, or another server has just done it. */
export async function sealDue({ store, clock, log }: Sealer): Promise<number> {
  let total = 0;
  for (;;) {
    const sealed = await store.change((change) => sealOnce(store, change, clock.nowMs()));
    if (sealed === null) return total;
    total += sealed.heads;
    // Whoever keeps the log elsewhere can tell a state that was replaced as a whole.
    log.info('audit_sealed', { ...sealed });
  }
}

async function sealOnce({ engine }: Pick<Store, 'engine'>, change: Change, nowMs: number) {
  const row = change.selectFrom('audit_sealer').selectAll().where('id', '=', 1);
  const sealer = await (engine === 'postgres' ? row.forUpdate().skipLocked() : row).executeTakeFirst();
  if (sealer === undefined || isLater(sealer.due_ms, nowMs)) return null;
  const heads = await openHeads({ engine }, change);
  if (heads.length === 0) return null;
  const sequence = sealer.sequence + 1;
  const entry = JSON.stringify({ sequence, at: new Date(nowMs).toISOString(), heads: sorted(heads) });
  const hash = hashOf(sealer.hash, entry);
  await change.insertInto('audit_seal').values({ sequence, at_ms: nowMs, entry, hash }).execute();
  const subjects = heads.map(({ subject }) => subject);
  await change.updateTable('audit_head').set({ is_sealed: 1 }).where('subject', 'in', subjects).execute();
  const due_ms = heads.length < AT_ONCE ? nowMs + EVERY_MS : nowMs;
  await change.updateTable('audit_sealer').set({ sequence, hash, due_ms }).where('id', '=', 1).execute();
  return { sequence, hash, heads: heads.length };
}

/** Later than any server sets it now: whoever did had a clock that was far ahead, and nobody waits for that. */
const isLater = (dueMs: number, nowMs: number): boolean => dueMs > nowMs && dueMs <= nowMs + EVERY_MS;

/** Those that somebody is just continuing come next time: waiting for them while others are held could be a circle. */
function openHeads({ engine }: Pick<Store, 'engine'>, change: Change): Promise<readonly AuditHeadTable[]> {
  const open = change.selectFrom('audit_head').selectAll().where('is_sealed', '=', 0).orderBy('subject').limit(AT_ONCE);
  return (engine === 'postgres' ? open.forUpdate().skipLocked() : open).execute();
}

/** By code units: each database has an order of its own. */
const sorted = (heads: readonly AuditHeadTable[]): readonly SealedHead[] =>
  heads
    .map(({ subject, sequence, hash }): SealedHead => [subject, sequence, hash])
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
