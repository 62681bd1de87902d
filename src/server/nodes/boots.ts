import { type Notice, noticeBoot, type Speaker } from '../../core/boots.ts';
import { QxError } from '../../errors.ts';
import { instantOf } from '../../format/schema.ts';
import type { Principal } from '../../ports/serving.ts';
import { record } from '../audit.ts';
import type { Doing } from '../maintenance/rows.ts';
import type { Change, MaintenanceTable, NodeBootTable, NodeTable, Reading } from '../store.ts';

/** Which boots have spoken as a host. Where two machines do, both are refused until a person has decided. */

/** Undefined: it is no host that speaks. */
export const speakerOf = (principal: Principal | null, wants: Speaker['wants'] = 'report'): Speaker | undefined =>
  principal?.kind === 'node' ? { boot: principal.boot ?? null, wants } : undefined;

export const bootsOf = (db: Reading | Change, nodeId: string): Promise<NodeBootTable[]> =>
  db.selectFrom('node_boot').selectAll().where('node_id', '=', nodeId).orderBy('since_ms').orderBy('boot').execute();

/** Since when two machines speak as this host; null: nobody has seen that, or a person has decided. */
export const conflictOf = async (db: Reading | Change, nodeId: string): Promise<number | null> =>
  (await db.selectFrom('node_conflict').select('since_ms').where('node_id', '=', nodeId).executeTakeFirst())
    ?.since_ms ?? null;

/** Most requests are of the boot that is known: they change nothing. */
export async function isHeard(db: Reading, nodeId: string, { boot }: Speaker): Promise<boolean> {
  if ((await conflictOf(db, nodeId)) !== null) return false;
  return boot === null || (await bootsOf(db, nodeId)).some((one) => one.boot === boot && one.state === 'current');
}

export interface Heard {
  /** Kept when the transaction is: whoever gets it throws it afterwards. */
  readonly refused: QxError | null;
  readonly isRestarted: boolean;
}

const AS_BEFORE: Heard = { refused: null, isRestarted: false };

interface Said {
  readonly node: NodeTable;
  readonly row: MaintenanceTable | undefined;
  readonly speaker: Speaker;
}

/** The host is held. */
export async function hear(change: Change, { node, row, speaker }: Said, doing: Doing): Promise<Heard> {
  const known = await bootsOf(change, node.id);
  const hasConflict = (await conflictOf(change, node.id)) !== null;
  const notice = noticeBoot(known, speaker, row === undefined ? null : { state: row.state, by: row.began_boot });
  const { boot } = speaker;
  if (notice === 'refused') return { refused: notThisOne(node), isRestarted: false };
  const isShared = hasConflict || notice === 'came back' || notice === 'uses the grant of another';
  if (isShared) {
    // Listed, so that a person can say which one it is.
    if (boot !== null && known.every((one) => one.boot !== boot)) await keepBoot(change, node.id, boot, 'over', doing);
    if (!hasConflict) await beginConflict(change, node, { notice, boot }, doing);
    return { refused: shared(node), isRestarted: false };
  }
  if (boot === null || notice === 'as before') return AS_BEFORE;
  await change
    .updateTable('node_boot')
    .set({ state: 'over' })
    .where('node_id', '=', node.id)
    .where('state', '=', 'current')
    .execute();
  await keepBoot(change, node.id, boot, 'current', doing);
  return { refused: null, isRestarted: notice === 'next' };
}

const KEPT = 16;

async function keepBoot(
  change: Change,
  node_id: string,
  boot: string,
  state: NodeBootTable['state'],
  { nowMs }: Doing,
): Promise<void> {
  await change.insertInto('node_boot').values({ node_id, boot, state, since_ms: nowMs }).execute();
  const over = (await bootsOf(change, node_id)).filter((one) => one.state === 'over' && one.boot !== boot);
  for (const old of over.slice(0, Math.max(0, over.length - KEPT))) {
    await change.deleteFrom('node_boot').where('node_id', '=', node_id).where('boot', '=', old.boot).execute();
  }
}

async function beginConflict(
  change: Change,
  { id, name }: NodeTable,
  seen: { readonly notice: Notice; readonly boot: string | null },
  { actor, nowMs }: Doing,
): Promise<void> {
  await change.insertInto('node_conflict').values({ node_id: id, since_ms: nowMs }).execute();
  const boots = (await bootsOf(change, id)).map(({ boot }) => boot).join(' ');
  const fields = { name, boot: seen.boot, it: seen.notice, boots };
  await record(change, { subject: `node:${id}`, actor, event: 'identity_shared', fields, atMs: nowMs });
}

/** @throws QxError NODE_UNKNOWN | IDENTITY_NOT_SHARED | BAD_REQUEST */
export async function decideBoot(
  change: Change,
  node: NodeTable,
  { boot: prefix, reason }: { readonly boot?: string | undefined; readonly reason: string },
  { actor, nowMs }: Doing,
): Promise<void> {
  const { id, name } = node;
  if ((await conflictOf(change, id)) === null)
    throw new QxError('IDENTITY_NOT_SHARED', `nobody else was heard to speak as ${name}`);
  const boots = await bootsOf(change, id);
  const chosen = prefix === undefined ? null : chosenOf(boots, prefix, name);
  await change.deleteFrom('node_conflict').where('node_id', '=', id).execute();
  if (chosen === null) {
    await change.deleteFrom('node_boot').where('node_id', '=', id).execute();
  } else {
    await change.updateTable('node_boot').set({ state: 'refused' }).where('node_id', '=', id).execute();
    await change
      .updateTable('node_boot')
      .set({ state: 'current' })
      .where('node_id', '=', id)
      .where('boot', '=', chosen)
      .execute();
  }
  // Either of them may have heard that it may go: it lapses, and the one that is left is emptied anew.
  await change
    .updateTable('maintenance')
    .set({ expires_ms: 0 })
    .where('node_id', '=', id)
    .where('state', '=', 'ready')
    .where('epoch', '>', 0)
    .execute();
  const fields = { name, reason, boot: chosen };
  await record(change, { subject: `node:${id}`, actor, event: 'identity_decided', fields, atMs: nowMs });
}

function chosenOf(boots: readonly NodeBootTable[], prefix: string, name: string): string {
  const meant = boots.filter(({ boot }) => boot.startsWith(prefix));
  if (meant.length === 1 && meant[0] !== undefined) return meant[0].boot;
  throw new QxError('BAD_REQUEST', `${meant.length} boots of ${name} begin with ${prefix}`, {
    next: 'qx-fleet node list shows them; qx-update identity show on a host prints its own',
  });
}

/** What everybody is told of it, hosts as well as people. */
export const sharedInWords = ({ name }: NodeTable, sinceMs: number): string =>
  `two machines speak as ${name}, since ${instantOf(sinceMs)}: neither is granted anything until an admin has decided`;

const shared = (node: NodeTable): QxError =>
  new QxError('IDENTITY_SHARED', `two machines speak as ${node.name}: neither is granted anything`, {
    next: `see which one is a copy, by qx-update identity show on both, and give it an identity of its own by qx-update enroll; then an admin says qx-fleet node resolve ${node.name} --reason TEXT`,
  });

const notThisOne = ({ name }: NodeTable): QxError =>
  new QxError('IDENTITY_SHARED', `an operator said that this machine is not ${name}`, {
    next: 'give it an identity of its own: qx-fleet node invite NAME, and qx-update enroll --again JOIN on this machine',
  });

/** A key is not renewed for one of two. The host is held. */
export async function hearRenewal(change: Change, node: NodeTable, principal: Principal, doing: Doing) {
  const speaker = speakerOf(principal, 'report');
  if (speaker === undefined) return null;
  const known = await bootsOf(change, node.id);
  const notice = noticeBoot(known, speaker, null);
  // A restart is noticed where it ends what was granted: when the host is next heard about its maintenance.
  if ((await conflictOf(change, node.id)) === null && (notice === 'first' || notice === 'next')) return null;
  return (await hear(change, { node, row: undefined, speaker }, doing)).refused;
}
