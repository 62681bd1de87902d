import { QxError } from '../../errors.ts';
import type { PLACE_ROUTES, Place } from '../../format/place-routes.ts';
import { instantOf } from '../../format/schema.ts';
import { foldCase } from '../../format/text.ts';
import type { Handlers } from '../../ports/serving.ts';
import { actorOf, record } from '../audit.ts';
import { grantWaiting, holderOf, release } from '../maintenance/grants.ts';
import { aboutHost, isBefore, type Maintenance } from '../maintenance/host.ts';
import { isActive, latestOf, move } from '../maintenance/rows.ts';
import { findNode } from '../nodes/rows.ts';
import { FLEETLOCK_HOLDER, givePlaceBack, holdsPlace, lockGate } from '../places.ts';

/** Places as operators see them. A machine that is dead says nothing: a person gives its place back, and says why. */
export function placeHandlers(m: Maintenance): Handlers<typeof PLACE_ROUTES> {
  return {
    places: async () => {
      const places = await listPlaces(m);
      return { json: { places, count: places.length } };
    },
    releasePlace: async ({ body: { holder, reason }, principal }) => {
      const by = { actor: actorOf(principal), reason };
      const released = holder.startsWith(FLEETLOCK_HOLDER)
        ? await releaseLock(m, foldCase(holder), by)
        : await releaseHost(m, holder, by);
      return { json: { status: 'released', holder: released } };
    },
  };
}

async function listPlaces({ store: { db } }: Maintenance): Promise<Place[]> {
  const rows = await db.selectFrom('place').selectAll().orderBy('granted_ms').orderBy('holder').execute();
  const inDomains = await db.selectFrom('place_domain').selectAll().orderBy('domain').execute();
  return Promise.all(
    rows.map(async ({ holder, granted_ms, heard_ms }): Promise<Place> => {
      const domains = inDomains.filter((one) => one.holder === holder).map(({ domain }) => domain);
      const known = holder.startsWith(FLEETLOCK_HOLDER) ? await lockOf(db, holder) : await hostOf(db, holder);
      const last_heard = heard_ms === null ? null : instantOf(heard_ms);
      return { ...known, domains, since: instantOf(granted_ms), last_heard };
    }),
  );
}

type Known = Pick<Place, 'holder' | 'kind' | 'group' | 'state' | 'asked_by'>;
type Db = Maintenance['store']['db'];

async function lockOf(db: Db, holder: string): Promise<Known> {
  const taken = await db
    .selectFrom('audit')
    .select('actor')
    .where('subject', '=', holder)
    .where('event', '=', 'place_taken')
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst();
  return { holder, kind: 'fleetlock', group: groupIn(holder), state: null, asked_by: taken?.actor ?? null };
}

const groupIn = (holder: string): string => holder.slice(FLEETLOCK_HOLDER.length, holder.indexOf('/'));

async function hostOf(db: Db, holder: string): Promise<Known> {
  const id = holder.slice(holderOf('').length);
  const { name, fleet_group: group } = await findNode(db, id);
  return { holder: name, kind: 'host', group, state: (await latestOf(db, id))?.state ?? null, asked_by: null };
}

interface By {
  readonly actor: string;
  readonly reason: string;
}

async function releaseLock(m: Maintenance, holder: string, { actor, reason }: By): Promise<string> {
  const nowMs = m.clock.nowMs();
  await m.store.change(async (change) => {
    await lockGate(m.store, change);
    if (!(await holdsPlace(change, holder))) throw holdsNone(holder);
    await givePlaceBack(change, holder);
    await record(change, { subject: holder, actor, event: 'place_released', fields: { reason }, atMs: nowMs });
  });
  await grantWaiting(m, groupIn(holder), { actor, nowMs });
  return holder;
}

/** What it had begun has failed as far as anybody knows; when it comes back, it asks anew. */
async function releaseHost(m: Maintenance, nodeId: string, { actor, reason }: By): Promise<string> {
  const { node_id } = await aboutHost(m, { nodeId, actor, places: 'may change' }, async (host) => {
    const { change, node, row, doing } = host;
    if (row === undefined || !(await holdsPlace(change, holderOf(node.id)))) throw holdsNone(nodeId);
    const event = isBefore(row) ? 'cancel' : 'fail';
    const error = `an operator gave its place back: ${reason}`;
    const over = isActive(row) ? await move(change, row, event, doing, { completed_ms: doing.nowMs, error }) : row;
    await release(m, change, { node, row: over }, doing.nowMs);
    const subject = holderOf(node.id);
    await record(change, { subject, actor, event: 'place_released', fields: { reason }, atMs: doing.nowMs });
  });
  return node_id;
}

const holdsNone = (holder: string): QxError =>
  new QxError('NOT_FOUND', `${holder} holds no place`, { next: 'see who does: qx-fleet place list' });
