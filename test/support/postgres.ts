import { afterAll, beforeAll } from 'vitest';
import { type Postgres, startPostgres } from '../../scripts/support/postgres.ts';

/** A PostgreSQL of the test's own. */

interface TestPostgres extends Pick<Postgres, 'stop' | 'start'> {
  /** Address of a fresh, empty database. */
  (): Promise<string>;
}

/** Runs while the tests of this file do. */
export function postgres(): TestPostgres {
  const state: { server?: Postgres } = {};
  const server = (): Postgres => {
    if (state.server === undefined) throw new Error('PostgreSQL was asked for before the tests began');
    return state.server;
  };
  beforeAll(async () => {
    state.server = await startPostgres({ within: '/tmp', isDurable: false });
  }, 60_000);
  afterAll(() => state.server?.[Symbol.asyncDispose]());
  return Object.assign(() => server().fresh(), { stop: () => server().stop(), start: () => server().start() });
}
