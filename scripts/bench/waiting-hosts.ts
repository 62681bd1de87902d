import { domainsOfHost } from '../../src/core/drain.ts';
import { NOTHING_YET } from '../../src/server/maintenance.ts';
import type { MaintenanceTable, NodeTable, Store } from '../../src/server/store.ts';

/** Hosts that have asked for a place, one after the other, as rows of the state. */

export interface WaitingHosts {
  /** Those that can be let in, in the order in which they asked. */
  readonly free: number;
  /** Those that asked before them, all in one rack, in which a host that failed keeps the only place. */
  readonly inFullRack: number;
  /** How many may be away beside the one that failed. */
  readonly atOnce: number;
}

const GROUP = 'bench';
const RACKS = 100;
const ROWS_AT_ONCE = 500;
const FULL_RACK = 'rack=full';

/** Name of the i-th that can be let in, from 0. */
export const freeHost = (index: number): string => `free-${index}`;

export async function seedWaiting(store: Store, { free, inFullRack, atOnce }: WaitingHosts): Promise<void> {
  const budgets = [
    { domain: `group:${GROUP}`, max_hosts: atOnce + 1, max_percent: null },
    { domain: 'rack', max_hosts: 1, max_percent: null },
  ];
  await store.change((change) => change.insertInto('budget').values(budgets).execute());
  const nowMs = Date.now();
  const askedMs = nowMs - inFullRack - free;
  await seed(store, [{ name: 'failed', rack: 'full', state: 'failed', requestedMs: askedMs - 1 }]);
  const stuck = Array.from({ length: inFullRack }, (_, i) => ({ name: `stuck-${i}`, rack: 'full' }));
  const others = Array.from({ length: free }, (_, i) => ({ name: freeHost(i), rack: `r${i % RACKS}` }));
  const hosts = [...stuck, ...others].map((host, i) => ({
    ...host,
    state: 'requested' as const,
    requestedMs: askedMs + i,
  }));
  for (let at = 0; at < hosts.length; at += ROWS_AT_ONCE) await seed(store, hosts.slice(at, at + ROWS_AT_ONCE));
  const holder = `node:${idOf('failed')}`;
  await store.change(async (change) => {
    await change.insertInto('place').values({ holder, granted_ms: askedMs }).execute();
    const domains = [`group:${GROUP}`, FULL_RACK].map((domain) => ({ holder, domain }));
    await change.insertInto('place_domain').values(domains).execute();
  });
}

interface SeededHost {
  readonly name: string;
  readonly rack: string;
  readonly state: 'requested' | 'failed';
  readonly requestedMs: number;
}

const idOf = (name: string): string => `id-of-${name}`;

async function seed(store: Store, hosts: readonly SeededHost[]): Promise<void> {
  await store.change(async (change) => {
    await change.insertInto('node').values(hosts.map(nodeOf)).execute();
    const domains = hosts.flatMap(({ name, rack }) =>
      domainsOfHost(GROUP, { rack }).map((domain) => ({ node_id: idOf(name), domain })),
    );
    await change.insertInto('node_domain').values(domains).execute();
    await change.insertInto('maintenance').values(hosts.map(maintenanceOf)).execute();
  });
}

const nodeOf = ({ name, rack, requestedMs }: SeededHost): NodeTable => ({
  id: idOf(name),
  name,
  state: 'enrolled',
  fleet_group: GROUP,
  labels: JSON.stringify({ rack }),
  carries_vms: 1,
  epoch: 0,
  spki: 'AAAA',
  told_pins: null,
  created_ms: requestedMs,
});

const maintenanceOf = ({ name, state, requestedMs }: SeededHost): MaintenanceTable => ({
  ...NOTHING_YET,
  id: `maintenance-of-${name}`,
  node_id: idOf(name),
  ordinal: 1,
  fleet_group: GROUP,
  state,
  target_version: '2.0.0',
  update_type: 'full',
  requires_reboot: 1,
  requested_ms: requestedMs,
});
