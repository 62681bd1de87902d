import type { BUDGET_ROUTES } from '../format/budget-routes.ts';
import type { FLEETLOCK_ROUTES } from '../format/fleetlock.ts';
import type { MAINTENANCE_ROUTES } from '../format/maintenance-routes.ts';
import type { ORDER_ROUTES } from '../format/order-routes.ts';
import type { PLACE_ROUTES } from '../format/place-routes.ts';
import type { Handlers } from '../ports/serving.ts';
import type { Clock, Log, Post, Random } from '../ports.ts';
import { budgetHandlers } from './budgets.ts';
import { orderHandlers } from './control-plane/orders.ts';
import type { ControlPlane } from './control-plane/signed.ts';
import { runDelivery } from './control-plane.ts';
import { fleetLockHandlers } from './fleetlock.ts';
import { maintenanceHandlers } from './maintenance/api.ts';
import type { Maintenance } from './maintenance/host.ts';
import { runSchedule } from './maintenance/schedule.ts';
import { placeHandlers } from './places/api.ts';
import type { Settings } from './settings.ts';
import type { Store } from './store.ts';

export interface MaintenancePorts {
  readonly store: Store;
  readonly http: Post;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

interface OpenMaintenance {
  readonly handlers: Handlers<
    typeof MAINTENANCE_ROUTES &
      typeof BUDGET_ROUTES &
      typeof PLACE_ROUTES &
      typeof ORDER_ROUTES &
      typeof FLEETLOCK_ROUTES
  >;
  /** What is due by itself, and what has to be told, until the signal. */
  run(signal: AbortSignal): Promise<void>;
}

export function openMaintenance(settings: Settings, ports: MaintenancePorts): OpenMaintenance {
  const { controlPlane, grantTtlMs, drainTimeoutMs } = settings;
  const { store, http, clock, random, log } = ports;
  const drainBy = controlPlane === null ? 'host' : 'control-plane';
  const maintenance: Maintenance = { store, drainBy, grantTtlMs, clock, random };
  const plane: ControlPlane | null = controlPlane && { http, clock, ...controlPlane };
  return {
    handlers: {
      ...maintenanceHandlers(maintenance, { controlPlane: plane, log }),
      ...budgetHandlers(maintenance),
      ...placeHandlers(maintenance),
      ...orderHandlers(maintenance),
      ...fleetLockHandlers(maintenance),
    },
    run: async (signal) => {
      const schedule = runSchedule({ maintenance, drainTimeoutMs, log }, signal);
      if (plane !== null) await runDelivery({ store, random, log, ...plane }, signal);
      await schedule;
    },
  };
}
