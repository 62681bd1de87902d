import { QxError } from '../../errors.ts';
import type { MaintenanceStatus } from '../../format/maintenance.ts';
import type { MAINTENANCE_ROUTES } from '../../format/maintenance-routes.ts';
import type { Handlers, Principal } from '../../ports/serving.ts';
import { actorOf } from '../audit.ts';
import { completeMaintenance, proceed, requestMaintenance, takeDrainProgress } from '../maintenance.ts';
import { speakerOf } from '../nodes/boots.ts';
import { findNode } from '../nodes/rows.ts';
import { heardOf } from '../places.ts';
import { holderOf } from './grants.ts';
import { expectHeard, type Maintenance, maintenanceOf } from './host.ts';
import { cancelMaintenance, forceMaintenance, listMaintenance } from './operate.ts';
import { drainPlanOf, type Planning } from './plan.ts';

/** The routes of maintenance. A host speaks for itself and for nobody else. */
export function maintenanceHandlers(m: Maintenance, planning: Planning): Handlers<typeof MAINTENANCE_ROUTES> {
  /** What holds a place and is silent is told from what is there. */
  const told = async (principal: Principal | null, status: MaintenanceStatus): Promise<{ json: MaintenanceStatus }> => {
    if (principal?.kind === 'node' && status.holds_place)
      await heardOf(m.store, holderOf(principal.id), m.clock.nowMs());
    return { json: status };
  };
  return {
    requestMaintenance: async ({ body, principal }) => {
      const node_id = expectItself(principal, body.node_id);
      const speaker = speakerOf(principal, 'grant');
      return told(principal, await requestMaintenance(m, { ...body, node_id }, actorOf(principal), speaker));
    },
    maintenanceStatus: async ({ params, principal }) => {
      const nodeId = expectItself(principal, await nodeMeantBy(m, params.nodeId));
      await expectHeard(m, nodeId, { actor: actorOf(principal), speaker: speakerOf(principal) });
      return told(principal, await maintenanceOf(m, nodeId));
    },
    maintenancePlan: async ({ params, principal, signal }) => {
      const nodeId = expectItself(principal, params.nodeId);
      await expectHeard(m, nodeId, { actor: actorOf(principal), speaker: speakerOf(principal) });
      return { json: await drainPlanOf(m, planning, nodeId, signal) };
    },
    drainProgress: async ({ body, principal }) => {
      const node_id = expectItself(principal, body.node_id);
      if (principal?.kind === 'node' && m.drainBy === 'control-plane') {
        throw new QxError('FORBIDDEN', 'the control plane says how far a drain has come, not the host', {
          next: 'unset CONTROL_PLANE_URL of the server where hosts empty themselves',
        });
      }
      const speaker = speakerOf(principal);
      return told(principal, await takeDrainProgress(m, { ...body, node_id }, actorOf(principal), speaker));
    },
    proceed: async ({ body, principal }) => {
      const wants = body.state === 'verifying' ? 'report' : 'grant';
      const node_id = expectItself(principal, body.node_id);
      return told(principal, await proceed(m, { ...body, node_id }, actorOf(principal), speakerOf(principal, wants)));
    },
    completeMaintenance: async ({ body, principal }) => {
      const node_id = expectItself(principal, body.node_id);
      return { json: await completeMaintenance(m, { ...body, node_id }, actorOf(principal), speakerOf(principal)) };
    },
    cancelMaintenance: async ({ params, principal }) => {
      const nodeId = expectItself(principal, params.nodeId);
      const by = { actor: actorOf(principal), isItself: principal?.kind === 'node', speaker: speakerOf(principal) };
      return { json: await cancelMaintenance(m, nodeId, by) };
    },
    forceMaintenance: async ({ params, body: { reason }, principal }) => ({
      json: await forceMaintenance(m, params.nodeId, { actor: actorOf(principal), reason }),
    }),
    listMaintenance: async () => {
      const nodes = [...(await listMaintenance(m))];
      return { json: { nodes, count: nodes.length } };
    },
  };
}

/** @throws QxError NODE_MISMATCH when a host names another one */
function expectItself(principal: Principal | null, named: string): string {
  if (principal?.kind !== 'node') return named;
  if (named === principal.name || named === principal.id) return principal.id;
  throw new QxError('NODE_MISMATCH', `the certificate is that of ${principal.name}`, {
    next: 'a host asks for itself only; node_id is the name that it was invited under',
  });
}

/** The seeds ask by either. */
async function nodeMeantBy({ store: { db } }: Maintenance, nodeOrMaintenance: string): Promise<string> {
  const found = await db
    .selectFrom('maintenance')
    .select('node_id')
    .where('id', '=', nodeOrMaintenance)
    .executeTakeFirst();
  return found?.node_id ?? (await findNode(db, nodeOrMaintenance)).id;
}
