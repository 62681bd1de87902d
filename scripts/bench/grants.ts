import { chmod, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { missingForPostgres, startPostgres } from '../support/postgres.ts';
import { type GrantingFleet, openGrantingFleet } from './granting-fleet.ts';
import { alternately } from './measure.ts';
import { type Bench, type Measured, median, percentile, type Row, type Unmeasured } from './row.ts';
import type { WaitingHosts } from './waiting-hosts.ts';

/** What it costs to let the next host go, on a state that waits for the medium, with ten thousand who ask. */

const WAITING = 10_000;
const AT_ONCE = 16;
const BURST = 64;
const PAIRS = 5;
const CALLS = 600;

/** A tenth of those who wait could not be let in, and asked first. */
const waiting = (atOnce: number, turns: number): WaitingHosts => ({
  inFullRack: WAITING / 10,
  free: (WAITING * 9) / 10 + turns + atOnce,
  atOnce,
});

const throughput = (engine: 'sqlite' | 'postgres', servers: number, goal: number): Row => ({
  name: servers === 1 ? `grants-${engine}` : `grants-${engine}-${servers}`,
  title: `a place given back and the next of 10 000 hosts let in, ${AT_ONCE} asking at once, ${
    engine === 'sqlite' ? 'SQLite' : `PostgreSQL, ${servers} ${servers === 1 ? 'server' : 'servers'}`
  }, against a bare transaction that inserts and changes one row, wall`,
  unit: 'x',
  goal,
  measure: (bench) => {
    const pairs = bench.pairs ?? PAIRS;
    const hosts = waiting(AT_ONCE, BURST * (pairs + 1));
    return withFleet(bench, engine, servers, hosts, (fleet) => ratio(fleet, pairs));
  },
});

async function ratio(fleet: GrantingFleet, pairs: number): Promise<Measured> {
  const samples = await alternately(
    () => wallMs(() => fleet.takeTurns(BURST)),
    () => wallMs(() => fleet.bareTransactions(BURST)),
    pairs,
  );
  const grantMs = median(samples.map(({ ours }) => ours)) / BURST;
  const bareMs = median(samples.map(({ baseline }) => baseline)) / BURST;
  const perSecond = Math.round(1000 / grantMs);
  return {
    value: median(samples.map(({ ours, baseline }) => ours / baseline)),
    inWords: `${perSecond} a second`,
    detail: { 'grants a second': perSecond, 'ms each': `${grantMs.toFixed(1)} / ${bareMs.toFixed(2)}`, pairs },
  };
}

const latency: Row = {
  name: 'grant-latency',
  title:
    'the call that gives a place back and lets the next of 10 000 waiting hosts in, one at a time, PostgreSQL, 99th percentile',
  unit: 'ms',
  goal: 50,
  measure: (bench) =>
    withFleet(bench, 'postgres', 1, waiting(1, CALLS), async (fleet) => {
      await fleet.takeTurns(CALLS / 10);
      const calls = await fleet.takeTurns(CALLS - CALLS / 10);
      const bare: number[] = [];
      for (let i = 0; i < CALLS; i++) bare.push(await wallMs(() => fleet.bareTransactions(1)));
      const told = (values: readonly number[]) =>
        [0.5, 0.99].map((share) => percentile(values, share).toFixed(1)).join(' / ');
      return {
        value: percentile(calls, 0.99),
        detail: { 'p50 / p99 ms': told(calls), 'of a bare transaction': told(bare), calls: calls.length },
      };
    }),
};

export const grantRows: readonly Row[] = [
  throughput('sqlite', 1, 40),
  throughput('postgres', 1, 25),
  throughput('postgres', 2, 25),
  throughput('postgres', 4, 25),
  latency,
];

async function withFleet(
  bench: Bench,
  engine: 'sqlite' | 'postgres',
  servers: number,
  hosts: WaitingHosts,
  measure: (fleet: GrantingFleet) => Promise<Measured>,
): Promise<Measured | Unmeasured> {
  const missing = engine === 'postgres' ? await missingForPostgres() : [];
  if (missing.length > 0) return { needs: missing.join(', ') };
  // Nobody, who runs PostgreSQL, passes through.
  await chmod(bench.folder, 0o711);
  const folder = await mkdtemp(join(bench.folder, 'grants-'));
  await using opened = new AsyncDisposableStack();
  const postgres =
    engine === 'postgres' ? opened.use(await startPostgres({ within: bench.folder, isDurable: true })) : null;
  const stateUrl = (await postgres?.fresh()) ?? `sqlite:${folder}/state/fleet.db`;
  const fleet = opened.use(await openGrantingFleet({ folder, stateUrl, servers, hosts }));
  return await measure(fleet);
}

async function wallMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}
