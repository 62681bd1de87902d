import { join } from 'node:path';
import { describe, onTestFinished } from 'vitest';
import { POSTGRES } from '../../scripts/support/postgres.ts';
import { prepareStore, type Store, type Tables } from '../../src/server/store.ts';
import { openDatabase } from '../../src/system/database.ts';
import { postgres } from './postgres.ts';
import { requires } from './requires.ts';
import { temporaryFolder } from './temp.ts';

/** The state of a server on the real engines. */

/** Address of an empty database of this test's own. */
type FreshUrl = () => Promise<string>;

/** The same tests on SQLite and on PostgreSQL. */
export function onBothEngines(name: string, tests: (freshUrl: FreshUrl) => void): void {
  describe(`${name} (SQLite)`, () => tests(async () => `sqlite:${join(await temporaryFolder(), 'state/fleet.db')}`));
  requires(POSTGRES)(`${name} (PostgreSQL)`, () => tests(postgres()));
}

/** Opened as a server does it, and closed when the test is over. */
export async function openStore(url: string): Promise<Store & { readonly url: string }> {
  const store = await openDatabase<Tables>(url);
  onTestFinished(() => store.close());
  await prepareStore(store);
  return { ...store, url };
}
