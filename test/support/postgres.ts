import { chown, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll } from 'vitest';

/** A PostgreSQL of the test's own, on a Unix socket in a temporary folder. It refuses to run as root, so nobody runs it. */

const BIN = '/usr/lib/postgresql/15/bin';
const NOBODY = 65534;
export const POSTGRES = {
  root: true,
  commands: ['setpriv'],
  files: { [`${BIN}/initdb`]: 'apt-get install postgresql' },
};

const asNobody = (...command: readonly string[]) =>
  execa('setpriv', [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', ...command], { cwd: '/' });

interface Postgres {
  /** Address of a fresh, empty database. */
  (): Promise<string>;
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** Runs while the tests of this file do. */
export function postgres(): Postgres {
  const state = { folder: '', made: 0 };
  const data = (): string => join(state.folder, 'data');
  const stop = async (): Promise<void> => {
    await asNobody(`${BIN}/pg_ctl`, '-D', data(), '-m', 'immediate', '-w', 'stop');
  };
  const start = async (): Promise<void> => {
    const settings = `-c listen_addresses= -c unix_socket_directories=${state.folder} -c fsync=off -c max_connections=200`;
    await asNobody(`${BIN}/pg_ctl`, '-D', data(), '-o', settings, '-l', join(state.folder, 'log'), '-w', 'start');
  };
  beforeAll(async () => {
    state.folder = await mkdtemp('/tmp/quantix-pg-');
    await chown(state.folder, NOBODY, NOBODY);
    await asNobody(`${BIN}/initdb`, '-A', 'trust', '-U', 'quantix', '--no-sync', '-D', data());
    await start();
  }, 60_000);
  afterAll(async () => {
    await stop();
    await rm(state.folder, { recursive: true, force: true });
  });
  const fresh = async (): Promise<string> => {
    const name = `state_${++state.made}`;
    await execa(`${BIN}/createdb`, ['-h', state.folder, '-U', 'quantix', name]);
    return `postgres://quantix@localhost/${name}?host=${encodeURIComponent(state.folder)}`;
  };
  return Object.assign(fresh, { stop, start });
}
