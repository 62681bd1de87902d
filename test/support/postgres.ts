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

/** Answers addresses of fresh, empty databases while the tests of this file run. */
export function postgres(): () => Promise<string> {
  const state = { folder: '', made: 0 };
  beforeAll(async () => {
    state.folder = await mkdtemp('/tmp/quantix-pg-');
    await chown(state.folder, NOBODY, NOBODY);
    const data = join(state.folder, 'data');
    await asNobody(`${BIN}/initdb`, '-A', 'trust', '-U', 'quantix', '--no-sync', '-D', data);
    const settings = `-c listen_addresses= -c unix_socket_directories=${state.folder} -c fsync=off -c max_connections=200`;
    await asNobody(`${BIN}/pg_ctl`, '-D', data, '-o', settings, '-l', join(state.folder, 'log'), '-w', 'start');
  }, 60_000);
  afterAll(async () => {
    await asNobody(`${BIN}/pg_ctl`, '-D', join(state.folder, 'data'), '-m', 'immediate', '-w', 'stop');
    await rm(state.folder, { recursive: true, force: true });
  });
  return async () => {
    const name = `state_${++state.made}`;
    await execa(`${BIN}/createdb`, ['-h', state.folder, '-U', 'quantix', name]);
    return `postgres://quantix@localhost/${name}?host=${encodeURIComponent(state.folder)}`;
  };
}
