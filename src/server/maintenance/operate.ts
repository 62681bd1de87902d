import type { Speaker } from '../../core/boots.ts';
import { QxError } from '../../errors.ts';
import { ACTIVE_STATES, type MaintenanceStatus } from '../../format/maintenance.ts';
import { holdsPlace, occupiedInWords, takePlace } from '../places.ts';
import type { MaintenanceTable, NodeTable } from '../store.ts';
import { becomeReady, beginDrain, domainsOf, holderOf, release } from './grants.ts';
import { aboutHost, type Host, isBefore, type Maintenance, notInMaintenance } from './host.ts';
import { isActive, move } from './rows.ts';
import { statusOf } from './status.ts';

/** What people do about maintenance. */

/**
 * Only before the host has begun. One that failed stays failed; whoever cancels it says that somebody looked after the host,
 * and gives its place back. @throws QxError NOT_IN_MAINTENANCE | CANCEL_UNSAFE
 */
export function cancelMaintenance(
  m: Maintenance,
  nodeId: string,
  by: { readonly actor: string; readonly isItself: boolean; readonly speaker?: Speaker | undefined },
): Promise<MaintenanceStatus> {
  const { actor, speaker } = by;
  return aboutHost(m, { nodeId, actor, speaker, places: 'may change' }, async ({ change, node, row, doing }) => {
    const isHeld = await holdsPlace(change, holderOf(node.id));
    if (row === undefined || (!isActive(row) && !isHeld)) throw notInMaintenance();
    if (isActive(row) ? !isBefore(row) : by.isItself) throw unsafe(row, node);
    const over = isActive(row) ? await move(change, row, 'cancel', doing, { completed_ms: doing.nowMs }) : row;
    await release(m, change, { node, row: over }, doing.nowMs);
  });
}

const unsafe = ({ state }: MaintenanceTable, { name }: NodeTable): QxError =>
  state === 'failed'
    ? new QxError('CANCEL_UNSAFE', 'a host that failed does not judge itself well again', {
        next: `an operator looks after it, then: qx-fleet maintenance cancel ${name}; or the host asks anew`,
      })
    : new QxError('CANCEL_UNSAFE', `the host is ${state} already`, {
        next: `wait for its report; when it is dead, an admin gives it up: qx-fleet place release ${name} --reason TEXT`,
      });

/** Its VMs go down with it. It still needs its place. @throws QxError NO_PLACE | NOT_IN_MAINTENANCE | CANCEL_UNSAFE */
export function forceMaintenance(
  m: Maintenance,
  nodeId: string,
  { actor, reason }: { readonly actor: string; readonly reason: string },
): Promise<MaintenanceStatus> {
  return aboutHost(m, { nodeId, actor, places: 'may change' }, async (host) => {
    const { change, row, doing } = host;
    if (row === undefined || !isActive(row)) throw notInMaintenance();
    const draining = row.state === 'requested' ? await forcePlace(m, host, row) : row;
    // Empty already, or on its way.
    if (draining.state !== 'draining') return;
    await becomeReady(change, draining, 'force', m.grantTtlMs, doing, { reason });
  });
}

async function forcePlace(m: Maintenance, { change, node, doing }: Host, row: MaintenanceTable) {
  const full = await takePlace(change, holderOf(node.id), await domainsOf(change, node.id), doing.nowMs);
  if (full.length === 0) return beginDrain(m, change, { node, row }, 'grant', doing);
  throw new QxError('NO_PLACE', `nobody else may be away: ${occupiedInWords(full)}`, {
    next: 'finish or cancel one of those, or raise the budget: qx-fleet budget set',
  });
}

/** Hosts in maintenance, and those that failed and still hold their place, which somebody has to look after; oldest first. */
export async function listMaintenance({ store: { db }, drainBy }: Maintenance): Promise<readonly MaintenanceStatus[]> {
  const holders = new Set((await db.selectFrom('place').select('holder').execute()).map(({ holder }) => holder));
  const conflicts = new Map(
    (await db.selectFrom('node_conflict').selectAll().execute()).map((one) => [one.node_id, one.since_ms]),
  );
  const nodes = await db.selectFrom('node').selectAll().execute();
  const nodeOf = new Map(nodes.map((node) => [node.id, node]));
  const holding = nodes.map(({ id }) => id).filter((id) => holders.has(holderOf(id)));
  const rows = await db
    .selectFrom('maintenance')
    .selectAll()
    .where(({ or, and, eb }) => {
      const active = eb('state', 'in', ACTIVE_STATES);
      return holding.length === 0
        ? active
        : or([active, and([eb('state', '=', 'failed'), eb('node_id', 'in', holding)])]);
    })
    .orderBy('ordinal')
    .execute();
  const latest = new Map(rows.map((row) => [row.node_id, row]));
  return [...latest.values()]
    .toSorted((a, b) => a.requested_ms - b.requested_ms)
    .flatMap((row) => {
      const node = nodeOf.get(row.node_id);
      if (node === undefined) return [];
      const conflictMs = conflicts.get(node.id) ?? null;
      return [statusOf({ node, row, holdsPlace: holders.has(holderOf(node.id)), drainBy, conflictMs })];
    });
}
