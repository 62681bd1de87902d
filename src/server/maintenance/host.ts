import type { Speaker } from '../../core/boots.ts';
import { QxError } from '../../errors.ts';
import type { MaintenanceStatus } from '../../format/maintenance.ts';
import type { Clock, Random } from '../../ports.ts';
import { undelivered } from '../control-plane/outbox.ts';
import { conflictOf, hear, isHeard } from '../nodes/boots.ts';
import { findNode, lockNode } from '../nodes/rows.ts';
import { holdsPlace, lockGate, occupiedInWords } from '../places.ts';
import type { Change, MaintenanceTable, NodeTable, Reading } from '../store.ts';
import { beginDrain, blockedBy, type Granting, grantWaiting, holderOf } from './grants.ts';
import { type Doing, latestOf } from './rows.ts';
import { statusOf } from './status.ts';

/** One host at a time: everything that changes its maintenance comes through here. */

export interface Maintenance extends Granting {
  readonly clock: Clock;
  readonly random: Random;
}

export interface Host {
  readonly change: Change;
  readonly node: NodeTable;
  /** Its latest maintenance, which may be over. */
  readonly row: MaintenanceTable | undefined;
  readonly doing: Doing;
}

interface About {
  readonly nodeId: string;
  readonly actor: string;
  /** Whether places may be taken or given back. */
  readonly places: 'may change' | 'stay';
  /** The host itself. */
  readonly speaker?: Speaker | undefined;
}

/** Answers where the host stands afterwards. `act` runs in a transaction that holds the host, and may run more than once. */
export async function aboutHost(
  m: Maintenance,
  { nodeId, actor, places, speaker }: About,
  act: (host: Host) => Promise<void>,
): Promise<MaintenanceStatus> {
  const { store } = m;
  const doing = { actor, nowMs: m.clock.nowMs() };
  const { id, fleet_group } = await findNode(store.db, nodeId);
  const refused = await store.change(async (change) => {
    // Always in this order, or two of them could wait for each other.
    if (places === 'may change') await lockGate(store, change);
    const locked = async () => ({ node: await lockNode(store, change, id), row: await latestOf(change, id) });
    const found = await locked();
    const heard = speaker && (await hear(change, { ...found, speaker }, doing));
    if (heard?.refused) return heard.refused;
    if (heard?.isRestarted) await endGrant(m, change, found, doing);
    await act({ change, ...(await locked()), doing });
    return null;
  });
  if (refused !== null) throw refused;
  await grantWaiting(m, fleet_group, doing);
  return maintenanceOf(m, id);
}

/** What a boot was granted is not for the next one: it has a drain, and a fencing token, of its own. */
async function endGrant(m: Maintenance, change: Change, { node, row }: Pick<Host, 'node' | 'row'>, doing: Doing) {
  if (row === undefined || row.epoch === 0 || (row.state !== 'draining' && row.state !== 'ready')) return;
  await beginDrain(m, change, { node, row }, 'lapse', { ...doing, actor: `${doing.actor}, restarted` });
}

/** A host says something of which nothing changes but which boot of it is up. @throws QxError IDENTITY_SHARED */
export async function expectHeard(
  m: Maintenance,
  nodeId: string,
  { actor, speaker }: Pick<About, 'actor' | 'speaker'>,
): Promise<void> {
  if (speaker === undefined || (await isHeard(m.store.db, nodeId, speaker))) return;
  await aboutHost(m, { nodeId, actor, speaker, places: 'stay' }, async () => undefined);
}

/** Where a host stands, in words that its operators understand. */
export async function maintenanceOf(m: Maintenance, nodeId: string): Promise<MaintenanceStatus> {
  const { db } = m.store;
  const node = await findNode(db, nodeId);
  const row = (await latestOf(db, node.id)) ?? null;
  const held = await holdsPlace(db, holderOf(node.id));
  const waits = row?.state === 'requested' ? await waitsFor(db, node) : null;
  const blocked = waits === null ? {} : { blockedBy: waits };
  const untold = await undelivered(db, node.id);
  const conflictMs = await conflictOf(db, node.id);
  return statusOf({ node, row, holdsPlace: held, drainBy: m.drainBy, untold, conflictMs, ...blocked });
}

/** Why a host would have to wait for its place, in words; null when it would not. */
export async function waitsFor(db: Reading, node: NodeTable): Promise<string | null> {
  const blocks = await blockedBy(db, node);
  if (blocks.length === 0) return null;
  return blocks
    .map((one) => (one === 'others first' ? 'it goes last of its group' : occupiedInWords([one])))
    .join('; ');
}

/** The host has changed nothing of itself yet. */
export const isBefore = ({ state }: MaintenanceTable): boolean =>
  state === 'requested' || state === 'draining' || state === 'ready';

/** Of one that needed no drain nothing was promised that could run out. */
export const isLapsed = ({ state, expires_ms }: MaintenanceTable, nowMs: number): boolean =>
  state === 'ready' && expires_ms !== null && nowMs > expires_ms;

export const notInMaintenance = (): QxError => new QxError('NOT_IN_MAINTENANCE', 'Node not in maintenance');

interface Meant {
  readonly maintenance_id?: string;
  /** Epoch of the drain that is spoken of. */
  readonly epoch?: number;
}

/** @throws QxError NOT_IN_MAINTENANCE | EPOCH_STALE when another maintenance, or another drain, is spoken of */
export function expectMeant(row: MaintenanceTable | undefined, { maintenance_id, epoch }: Meant): MaintenanceTable {
  if (row === undefined) throw notInMaintenance();
  if (maintenance_id !== undefined && maintenance_id !== row.id)
    throw stale(`maintenance ${maintenance_id} is over; ${row.id} came after it`);
  if (epoch !== undefined && epoch !== row.epoch)
    throw stale(`this is about drain ${epoch}; the latest is ${row.epoch}`);
  return row;
}

const stale = (detail: string): QxError =>
  new QxError('EPOCH_STALE', detail, { next: 'ask for the status of the host, and go on from there' });
