import { groupDomain, VDC_DOMAIN } from '../../core/drain.ts';
import { ACTIVE_STATES } from '../../format/maintenance.ts';
import { tellControlPlane } from '../control-plane/outbox.ts';
import { conflictOf } from '../nodes/boots.ts';
import { lockNode } from '../nodes/rows.ts';
import { fullAmong, givePlaceBack, isFull, lockGate, type Occupied, occupied, takePlace } from '../places.ts';
import type { Change, MaintenanceTable, NodeTable, Reading, Store } from '../store.ts';
import { type Doing, isActive, latestOf, move } from './rows.ts';

/** Places of hosts: who gets the next one, and what begins with it. */

export interface Granting {
  readonly store: Store;
  readonly drainBy: 'control-plane' | 'host';
  /** How long a host that is empty may take to begin. */
  readonly grantTtlMs: number;
}

export const holderOf = (nodeId: string): string => `node:${nodeId}`;

/** Longest waiting first, as long as there is room. The first to ask is not always the next: its rack may be full. */
export async function grantWaiting(granting: Granting, group: string, doing: Doing): Promise<void> {
  const { store } = granting;
  // Most of those who ask find no room, and need not wait for the gate to hear it.
  while ((await fullAmong(store.db, [groupDomain(group)])).length === 0) {
    const granted = await store.change(async (change) => {
      await lockGate(store, change);
      return grantNext(granting, change, group, doing);
    });
    if (granted === 0) return;
  }
}

/** Answers how many were let in. When several came back at once, those who wait are looked through only once for all. */
async function grantNext(granting: Granting, change: Change, group: string, doing: Doing): Promise<number> {
  const inUse = await occupied(change);
  const ofGroup = inUse.find(({ domain }) => domain === groupDomain(group));
  const room = ofGroup === undefined ? 1 : ofGroup.allowed - ofGroup.used;
  // Another server was faster.
  if (room <= 0) return 0;
  const full = inUse.filter(isFull).map(({ domain }) => domain);
  let granted = 0;
  for (const row of await candidates(change, group, full)) {
    const node = await lockNode(granting.store, change, row.node_id);
    const domains = await domainsOf(change, node.id);
    if ((await conflictOf(change, node.id)) !== null || (await isForLater(change, node, domains))) continue;
    if ((await takePlace(change, holderOf(node.id), domains, doing.nowMs)).length > 0) continue;
    await beginDrain(granting, change, { node, row }, 'grant', doing);
    granted += 1;
    if (granted >= room) break;
  }
  return granted;
}

const CANDIDATES = 20;

/** Those who were not in the way of a domain that is full: among ten thousand that wait, most are. */
async function candidates(
  change: Change,
  group: string,
  full: readonly string[],
): Promise<readonly MaintenanceTable[]> {
  const waiting = change
    .selectFrom('maintenance as m')
    .selectAll('m')
    .where('m.state', '=', 'requested')
    .where('m.fleet_group', '=', group)
    .orderBy('m.requested_ms')
    .orderBy('m.id')
    .limit(CANDIDATES);
  if (full.length === 0) return waiting.execute();
  return waiting
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('node_domain as d')
            .select('d.domain')
            .whereRef('d.node_id', '=', 'm.node_id')
            .where('d.domain', 'in', full),
        ),
      ),
    )
    .execute();
}

export const domainsOf = async (db: Reading | Change, nodeId: string): Promise<readonly string[]> =>
  (await db.selectFrom('node_domain').select('domain').where('node_id', '=', nodeId).orderBy('domain').execute()).map(
    ({ domain }) => domain,
  );

/** What keeps a host waiting. */
export async function blockedBy(
  db: Reading | Change,
  node: NodeTable,
): Promise<readonly (Occupied | 'others first')[]> {
  const domains = await domainsOf(db, node.id);
  const full = await fullAmong(db, domains);
  if (full.length > 0) return full;
  return (await isForLater(db, node, domains)) ? ['others first'] : [];
}

/** The host that carries the control plane goes when nobody else of its group is under way. */
async function isForLater(db: Reading | Change, node: NodeTable, domains: readonly string[]): Promise<boolean> {
  if (!domains.includes(VDC_DOMAIN)) return false;
  const other = await db
    .selectFrom('maintenance')
    .select('id')
    .where('fleet_group', '=', node.fleet_group)
    .where('node_id', '!=', node.id)
    .where('state', 'in', ACTIVE_STATES)
    .limit(1)
    .executeTakeFirst();
  return other !== undefined;
}

interface OfHost {
  readonly node: NodeTable;
  readonly row: MaintenanceTable;
}

/** Each drain has an epoch of its own: what is still said about the one before it counts for nothing. */
export async function beginDrain(
  { drainBy, grantTtlMs }: Granting,
  change: Change,
  { node, row }: OfHost,
  event: 'grant' | 'lapse',
  doing: Doing,
): Promise<MaintenanceTable> {
  const { nowMs } = doing;
  const epoch = node.epoch + 1;
  await change.updateTable('node').set({ epoch }).where('id', '=', node.id).execute();
  const anew = {
    total_vms: 0,
    migrated_vms: 0,
    failed_vms: '[]',
    remaining_vms: '[]',
    ready_ms: null,
    expires_ms: null,
    began_boot: null,
  };
  // One that restarts over and over is not given more time by it.
  const draining_ms = row.state === 'draining' ? row.draining_ms : nowMs;
  const draining = await move(change, row, event, doing, { ...anew, epoch, draining_ms });
  if (node.carries_vms === 0) return becomeReady(change, draining, 'empty', grantTtlMs, doing);
  if (drainBy === 'control-plane') await tellControlPlane(change, node, draining, 'drain', nowMs);
  return draining;
}

export const becomeReady = (
  change: Change,
  row: MaintenanceTable,
  event: 'empty' | 'force',
  ttlMs: number,
  doing: Doing,
  also: Parameters<typeof move>[4] = {},
): Promise<MaintenanceTable> =>
  move(change, row, event, doing, { ...also, ready_ms: doing.nowMs, expires_ms: doing.nowMs + ttlMs });

/** The gate is held. What was cordoned for it may carry VMs again. */
export async function release(
  { drainBy }: Granting,
  change: Change,
  { node, row }: OfHost,
  nowMs: number,
): Promise<void> {
  await givePlaceBack(change, holderOf(node.id));
  if (row.epoch > 0 && node.carries_vms === 1 && drainBy === 'control-plane') {
    await tellControlPlane(change, node, row, 'uncordon', nowMs);
  }
}

/** The gate and the host are held. Nobody hears of it any more, so nobody waits for it either. */
export async function endMaintenance(change: Change, nodeId: string, doing: Doing, error: string): Promise<void> {
  const row = await latestOf(change, nodeId);
  if (row !== undefined && isActive(row)) await move(change, row, 'fail', doing, { completed_ms: doing.nowMs, error });
  await givePlaceBack(change, holderOf(nodeId));
}
