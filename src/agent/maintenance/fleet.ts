import { isCode, type QxError } from '../../errors.ts';
import type { HostMaintenance } from '../../format/host-maintenance.ts';
import { ACTIVE_STATES, type MaintenanceStatus } from '../../format/maintenance.ts';
import { MAINTENANCE_ROUTES } from '../../format/maintenance-routes.ts';
import type { Membership } from '../../format/membership.ts';
import type { ResponseOf, Route } from '../../format/route.ts';
import { type Asked, askFleet } from '../fleet/client.ts';
import { type Member, serverOf } from '../fleet/enrol.ts';
import type { Host } from '../host.ts';
import type { Coordinator, Standing, Wish } from './coordinator.ts';
import {
  BEFORE,
  bodyOf,
  endOf,
  isFor,
  isMeant,
  isOver,
  NOBODY_EMPTIES,
  outlookOf,
  progressOf,
  standingAfter,
  standingOf,
  typeOf,
} from './fleet-words.ts';
import { changeRecord, hasRebooted, loadRecord } from './record.ts';

/** The server of the fleet gives out the places, and has the host emptied before it may go. */

export function fleet(host: Pick<Host, 'files' | 'clock'> & Pick<Member, 'http'>, membership: Membership): Coordinator {
  const { files, http, clock } = host;
  const node_id = membership.node_id;
  const call = <R extends Route>(route: R, asked: Asked<R>): Promise<ResponseOf<R>> =>
    askFleet(http, serverOf(membership), route, asked);
  const statusNow = () => call(MAINTENANCE_ROUTES.maintenanceStatus, { params: { nodeId: node_id } });

  const cancel = () => call(MAINTENANCE_ROUTES.cancelMaintenance, { params: { nodeId: node_id } });

  const ask = async (wish: Wish): Promise<Standing> => {
    const record = await loadRecord(files);
    const now = await statusNow();
    const isOurs = record?.maintenance_id !== undefined && record.maintenance_id === now.maintenance_id;
    if (now.drain_by === 'host' && !wish.canEmptyItself && wish.updateType !== 'component') {
      // A place that it could not use is not for it.
      if (isOurs && BEFORE.has(now.state)) await cancel();
      return { kind: 'wait', reason: NOBODY_EMPTIES };
    }
    const ended = isOurs ? standingAfter(now, clock.nowMs()) : null;
    if (ended !== null) return ended;
    // It waits for a reboot that is not wanted any more, or for none where one is.
    if (isOurs && BEFORE.has(now.state) && now.update_type !== typeOf(wish.updateType)) await cancel();
    const status =
      isOurs && isFor(now, wish)
        ? now
        : await call(MAINTENANCE_ROUTES.requestMaintenance, { body: bodyOf(node_id, wish) });
    await remember(status);
    return standingOf(status);
  };

  /** Another boot that asks for what this one has used up would be taken for another machine. */
  const isUntold = async (): Promise<boolean> => {
    const record = await loadRecord(files);
    return record?.maintenance_id !== undefined && record.has_failed !== true && hasRebooted(files, record);
  };

  const remember = async ({ maintenance_id, fencing_token }: MaintenanceStatus): Promise<void> => {
    const record = await loadRecord(files);
    if (record === null || maintenance_id === null) return;
    await changeRecord(files, record, { maintenance_id, ...(fencing_token === undefined ? {} : { fencing_token }) });
  };

  const meant = ({ maintenance_id = '', fencing_token = 0 }: HostMaintenance) => ({
    node_id,
    maintenance_id,
    fencing_token,
  });

  const end: Coordinator['end'] = async (record, how, detail) => {
    const now = await statusNow();
    const { state, maintenance_id } = now;
    if (maintenance_id === null || !isMeant(record, now) || !ACTIVE_STATES.includes(state)) return 'over';
    // A host that was rebooted without having been granted it was not emptied either.
    if (BEFORE.has(state) && !(how === 'complete' && state === 'ready')) {
      await cancel();
      return 'over';
    }
    const ended = endOf(how, record, now, detail);
    const told = await call(MAINTENANCE_ROUTES.completeMaintenance, { body: { node_id, maintenance_id, ...ended } });
    return told.holds_place ? 'kept' : 'over';
  };

  return {
    by: 'fleet',
    ask: async (wish) =>
      (await isUntold())
        ? { kind: 'wait', reason: 'the fleet has not heard yet how the last reboot ended' }
        : ask(wish),
    drained: async (state) => {
      const record = await loadRecord(files);
      if (record?.maintenance_id === undefined) return { kind: 'wait', reason: 'the fleet has not answered yet' };
      const { maintenance_id, fencing_token = 0 } = record;
      const body = { node_id, maintenance_id, epoch: fencing_token, ...progressOf(state) };
      return standingOf(await call(MAINTENANCE_ROUTES.drainProgress, { body }));
    },
    plan: async () => {
      const plan = await call(MAINTENANCE_ROUTES.maintenancePlan, { params: { nodeId: node_id } });
      return plan.drain_by === 'host' ? null : outlookOf(plan);
    },
    begin: async (record) => {
      try {
        await call(MAINTENANCE_ROUTES.proceed, { body: { ...meant(record), state: 'rebooting' } });
        return { granted: true };
      } catch (error) {
        if (!isOver(error) && !isCode(error, 'GRANT_LAPSED') && !isCode(error, 'ILLEGAL_TRANSITION')) throw error;
        return { granted: false, reason: (error as QxError).message };
      }
    },
    verifying: async (record) => {
      await call(MAINTENANCE_ROUTES.proceed, { body: { ...meant(record), state: 'verifying' } }).catch((error) => {
        // It went down before it was granted, by a power cut for example: only how it ended is of interest.
        if (!isOver(error) && !isCode(error, 'ILLEGAL_TRANSITION')) throw error;
      });
    },
    end: (...told) => end(...told).catch(overWhenUnknown),
    isForgiven: async () => !(await statusNow()).holds_place,
  };
}

const overWhenUnknown = (error: unknown): 'over' => {
  if (isOver(error)) return 'over';
  throw error;
};
