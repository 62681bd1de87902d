import { Type } from 'typebox';
import { DrainPlan } from './drain-plan.ts';
import {
  DrainProgress,
  ForceReason,
  MaintenanceComplete,
  MaintenanceRequest,
  MaintenanceStatus,
  MaintenanceStep,
  OfNode,
  OfNodeOrMaintenance,
} from './maintenance.ts';
import type { RouteTable } from './route.ts';

/** Maintenance mode on the wire: how a host comes to be empty before it reboots. */
export const MAINTENANCE_ROUTES = {
  requestMaintenance: {
    method: 'POST',
    path: '/api/v1/maintenance/request',
    who: 'node',
    summary: 'A host asks to be emptied; asked again, the answer is where it stands',
    body: MaintenanceRequest,
    content: 'json',
    response: MaintenanceStatus,
  },
  maintenanceStatus: {
    method: 'GET',
    path: '/api/v1/maintenance/status/{nodeId}',
    who: 'node-or-viewer',
    summary: 'Where the maintenance of a host stands',
    params: OfNodeOrMaintenance,
    content: 'json',
    response: MaintenanceStatus,
  },
  maintenancePlan: {
    method: 'GET',
    path: '/api/v1/maintenance/plan/{nodeId}',
    who: 'node-or-viewer',
    summary:
      'What a drain of a host would do: which VM would move where, what blocks, how long it takes. Changes nothing',
    params: OfNode,
    content: 'json',
    response: DrainPlan,
  },
  drainProgress: {
    method: 'POST',
    path: '/api/v1/maintenance/drain-progress',
    who: 'node-or-control-plane',
    summary: 'How far a drain has come; a host reports its own where there is no control plane',
    body: DrainProgress,
    content: 'json',
    response: MaintenanceStatus,
  },
  proceed: {
    method: 'POST',
    path: '/api/v1/maintenance/proceed',
    who: 'node',
    summary: 'A host updates, reboots or verifies next, if its grant still holds',
    body: MaintenanceStep,
    content: 'json',
    response: MaintenanceStatus,
  },
  completeMaintenance: {
    method: 'POST',
    path: '/api/v1/maintenance/complete',
    who: 'node',
    summary: 'How the update of a host ended',
    body: MaintenanceComplete,
    content: 'json',
    response: MaintenanceStatus,
  },
  cancelMaintenance: {
    method: 'POST',
    path: '/api/v1/maintenance/cancel/{nodeId}',
    who: 'node-or-operator',
    summary: 'Give up a maintenance that has not begun to update, or give back the place of one that failed',
    params: OfNode,
    content: 'json',
    response: MaintenanceStatus,
  },
  forceMaintenance: {
    method: 'POST',
    path: '/api/v1/maintenance/force/{nodeId}',
    who: 'admin',
    summary: 'Do not wait until the host is empty: its VMs go down with it',
    params: OfNode,
    body: ForceReason,
    content: 'json',
    response: MaintenanceStatus,
  },
  listMaintenance: {
    method: 'GET',
    path: '/api/v1/maintenance/list',
    who: 'viewer',
    summary: 'Hosts in maintenance, and those that failed and still hold a place',
    content: 'json',
    response: Type.Object({ nodes: Type.Array(MaintenanceStatus), count: Type.Integer() }),
  },
} as const satisfies RouteTable;
