import { groupDomain } from '../core/drain.ts';
import { QxError } from '../errors.ts';
import { FLEETLOCK_HEADER, type FLEETLOCK_ROUTES, type FleetLockRequest } from '../format/fleetlock.ts';
import { foldCase } from '../format/text.ts';
import type { Call, Handlers, Reply } from '../ports/serving.ts';
import { actorOf, record } from './audit.ts';
import { grantWaiting } from './maintenance/grants.ts';
import type { Maintenance } from './maintenance/host.ts';
import {
  FLEETLOCK_HOLDER,
  givePlaceBack,
  heardOf,
  holdsPlace,
  lockGate,
  occupiedInWords,
  takePlace,
} from './places.ts';
import type { Change } from './store.ts';

/**
 * Hosts of other systems in our budget. They look after their own drain; who asked holds a place from `pre-reboot` until its
 * `steady-state`, however long it is silent in between.
 */
export function fleetLockHandlers(m: Maintenance): Handlers<typeof FLEETLOCK_ROUTES> {
  return {
    preReboot: async (call) => refusalOf(call) ?? lock(m, call.body, actorOf(call.principal)),
    steadyState: async (call) => refusalOf(call) ?? unlock(m, call.body, actorOf(call.principal)),
  };
}

type FleetLockCall = Pick<Call, 'caller' | 'principal'>;

/** A page in a browser cannot set the header. One of our own hosts has a place by its maintenance and by nothing else. */
function refusalOf({ caller, principal }: FleetLockCall): Reply<never> | null {
  if (caller.headers[FLEETLOCK_HEADER] !== 'true') {
    return refused('BAD_REQUEST', 'missing_protocol_header', `the header ${FLEETLOCK_HEADER} has to be true`);
  }
  if (principal?.kind !== 'node') return null;
  return refused('FORBIDDEN', 'invalid_client_identity', 'an enrolled host asks for maintenance instead');
}

/** FleetLock's own members come along in the problem. */
const refused = (code: 'BAD_REQUEST' | 'FORBIDDEN' | 'NO_PLACE', kind: string, value: string): Reply<never> => ({
  refused: new QxError(code, value),
  members: { kind, value },
});

async function lock(m: Maintenance, { client_params: client }: FleetLockRequest, actor: string) {
  const full = await m.store.change(async (change) => {
    await lockGate(m.store, change);
    if (await holdsPlace(change, holderOf(client))) return null;
    const occupied = await takePlace(change, holderOf(client), [groupDomain(groupOf(client))], m.clock.nowMs());
    if (occupied.length === 0) await note(change, m, client, actor, 'place_taken');
    return occupied;
  });
  if (full === null) await heardOf(m.store, holderOf(client), m.clock.nowMs());
  return full === null || full.length === 0
    ? { json: {} }
    : refused('NO_PLACE', 'failed_lock_semaphore_full', `nobody else may reboot: ${occupiedInWords(full)}`);
}

async function unlock(m: Maintenance, { client_params: client }: FleetLockRequest, actor: string) {
  await m.store.change(async (change) => {
    await lockGate(m.store, change);
    if (!(await holdsPlace(change, holderOf(client)))) return;
    await givePlaceBack(change, holderOf(client));
    await note(change, m, client, actor, 'place_given_back');
  });
  await grantWaiting(m, groupOf(client), { actor, nowMs: m.clock.nowMs() });
  return { json: {} };
}

type Client = FleetLockRequest['client_params'];

/** Clients write both as they like: one that says it in capitals is no second host, and no group of its own. */
const holderOf = ({ group, id }: Client): string => foldCase(`${FLEETLOCK_HOLDER}${group}/${id}`);
const groupOf = ({ group }: Client): string => foldCase(group);

const note = (change: Change, { clock }: Maintenance, client: Client, actor: string, event: string): Promise<void> =>
  record(change, { subject: holderOf(client), actor, event, atMs: clock.nowMs() });
