import { expect, onTestFinished, vi } from 'vitest';
import { MAINTENANCE_ROUTES } from '../../src/format/maintenance-routes.ts';
import { deliverDue } from '../../src/server/control-plane.ts';
import { hostRandom } from '../../src/system/clock.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { type ControlPlane, type ControlPlaneHost, startControlPlane } from './control-plane.ts';
import { fakeClock } from './fakes.ts';
import {
  type Answer,
  type As,
  CONTROL_PLANE_TOKEN,
  type EnrolledHost,
  enrolled,
  type FleetBench,
  fleetBench,
} from './fleet.ts';

/** A whole server and the control plane that it asks, with the wire between them. */

export const PLANE_SECRET = 'control-plane-secret-of-more-than-32-bytes';
const R = MAINTENANCE_ROUTES;

export interface PlannedFleet {
  readonly fleet: FleetBench;
  readonly plane: ControlPlane;
  host(name: string): EnrolledHost;
  /** As root when nobody else is named. */
  plan(nodeId: string, as?: As): Promise<Answer>;
  /** The host asks to be emptied. */
  ask(name: string): Promise<Answer>;
  /** Sends the control plane its orders, and waits until the host is empty. */
  drain(name: string): Promise<void>;
  /** A drain that took so long, as the control plane told it; it is over, and the host carries VMs again. */
  drained(name: string, took: { readonly seconds: number; readonly vms: number }): Promise<void>;
}

export async function plannedFleet(url: string, hosts: readonly ControlPlaneHost[]): Promise<PlannedFleet> {
  const made: { fleet?: FleetBench } = {};
  const tell = (body: object) =>
    (made.fleet as FleetBench).call({ token: CONTROL_PLANE_TOKEN }, R.drainProgress, { body });
  const plane = await startControlPlane({ secret: PLANE_SECRET, hosts, report: tell });
  const environment = { CONTROL_PLANE_URL: plane.url, CONTROL_PLANE_SECRET: PLANE_SECRET };
  const fleet = await fleetBench({ url, environment, standsStill: true });
  made.fleet = fleet;
  const known = new Map<string, EnrolledHost>();
  for (const { name } of hosts) known.set(name, await enrolled(fleet, name));
  const host = (name: string): EnrolledHost => known.get(name) as EnrolledHost;
  const ask = (name: string): Promise<Answer> =>
    fleet.call({ certificate: host(name).certificate }, R.requestMaintenance, {
      body: { node_id: name, target_version: '2.0.0', update_type: 'full' },
    });
  const http = undiciHttp();
  onTestFinished(() => http.close());
  return {
    fleet,
    plane,
    host,
    ask,
    plan: (nodeId, as) => {
      const asked = { params: { nodeId } };
      return as === undefined ? fleet.root(R.maintenancePlan, asked) : fleet.call(as, R.maintenancePlan, asked);
    },
    drain: async (name) => {
      const clock = { ...fakeClock(), nowMs: () => Date.now() };
      const { store, log } = fleet;
      await deliverDue({ store, log, http, url: plane.url, secret: PLANE_SECRET, clock, random: hostRandom() });
      const state = async () => (await fleet.root(R.maintenanceStatus, { params: { nodeId: name } })).json.state;
      await vi.waitFor(async () => expect(await state()).toBe('ready'), { timeout: 10_000 });
    },
    drained: async (name, { seconds, vms }) => {
      const { json } = await ask(name);
      fleet.clock.aheadMs += seconds * 1000;
      const all = { total_vms: vms, migrated_vms: vms, completed: true };
      const { status } = await tell({ node_id: name, epoch: json.fencing_token, ...all });
      expect(status).toBe(200);
      await fleet.root(R.cancelMaintenance, { params: { nodeId: name } });
      fleet.clock.aheadMs = 0;
    },
  };
}
