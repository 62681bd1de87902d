import { randomUUID } from 'node:crypto';
import { domainsOfHost } from '../../src/core/drain.ts';
import type { Maintenance } from '../../src/server/maintenance/host.ts';
import type { Store } from '../../src/server/store.ts';

/** Hosts that were enrolled, and servers that look after them. */

export interface FleetClock {
  nowMs: number;
}

const START_MS = Date.parse('2026-11-10T12:00:00Z');
export const GRANT_TTL_MS = 900_000;

export const fleetClock = (): FleetClock => ({ nowMs: START_MS });

export function serverOn(store: Store, time: FleetClock, settings: Partial<Maintenance> = {}): Maintenance {
  return {
    store,
    drainBy: 'control-plane',
    grantTtlMs: GRANT_TTL_MS,
    clock: {
      nowMs: () => time.nowMs,
      monotonicMs: () => time.nowMs,
      sleep: async () => undefined,
      isSynchronised: async () => true,
    },
    random: { id: () => randomUUID().replaceAll('-', '').slice(0, 16), unit: Math.random },
    ...settings,
  };
}

export interface NewNode {
  readonly name: string;
  readonly group?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly carriesVms?: boolean;
}

export async function enrol(store: Store, ...nodes: readonly NewNode[]): Promise<void> {
  await store.change(async (change) => {
    for (const { name, group = 'default', labels = {}, carriesVms = true } of nodes) {
      const id = randomUUID();
      const node = { id, name, state: 'enrolled' as const, fleet_group: group, labels: JSON.stringify(labels) };
      const rest = { carries_vms: carriesVms ? 1 : 0, epoch: 0, spki: 'AAAA', created_ms: START_MS };
      await change
        .insertInto('node')
        .values({ ...node, ...rest })
        .execute();
      const domains = domainsOfHost(group, labels).map((domain) => ({ node_id: id, domain }));
      await change.insertInto('node_domain').values(domains).execute();
    }
  });
}

export const setBudget = (store: Store, domain: string, max: { hosts?: number; percent?: number }) =>
  store.change((change) => {
    const row = { domain, max_hosts: max.hosts ?? null, max_percent: max.percent ?? null };
    return change
      .insertInto('budget')
      .values(row)
      .onConflict((conflict) => conflict.column('domain').doUpdateSet(row))
      .execute();
  });
