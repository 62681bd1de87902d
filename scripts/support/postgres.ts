import { access, chown, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

/** A PostgreSQL of its own, on a Unix socket in a temporary folder. It refuses to run as root, so nobody runs it. */

const BIN = '/usr/lib/postgresql/15/bin';
const NOBODY = 65534;
/** In the form of `Requirements` of test/support/requires.ts. */
export const POSTGRES = {
  root: true,
  commands: ['setpriv'],
  files: { [`${BIN}/initdb`]: 'apt-get install postgresql' },
};

/** What this machine lacks to run one; empty when it can. */
export async function missingForPostgres(): Promise<readonly string[]> {
  const absent = Object.entries(POSTGRES.files).map(([path, maker]) =>
    access(path).then(
      () => [],
      () => [`${path} (${maker})`],
    ),
  );
  return [...(process.getuid?.() === 0 ? [] : ['root']), ...(await Promise.all(absent)).flat()];
}

const asNobody = (...command: readonly string[]) =>
  execa('setpriv', [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', ...command], { cwd: '/' });

export interface Postgres extends AsyncDisposable {
  /** Address of a fresh, empty database. */
  fresh(): Promise<string>;
  stop(): Promise<void>;
  start(): Promise<void>;
}

interface PostgresRequest {
  /** An existing folder that others than its owner may pass through. */
  readonly within: string;
  /** Whether it waits for the medium, as it does where nobody says otherwise. */
  readonly isDurable: boolean;
}

export async function startPostgres({ within, isDurable }: PostgresRequest): Promise<Postgres> {
  const folder = await mkdtemp(join(within, 'quantix-pg-'));
  const data = join(folder, 'data');
  await chown(folder, NOBODY, NOBODY);
  const stop = async (): Promise<void> => {
    await asNobody(`${BIN}/pg_ctl`, '-D', data, '-m', 'immediate', '-w', 'stop');
  };
  const start = async (): Promise<void> => {
    const fsync = isDurable ? 'on' : 'off';
    const settings = `-c listen_addresses= -c unix_socket_directories=${folder} -c fsync=${fsync} -c max_connections=200`;
    await asNobody(`${BIN}/pg_ctl`, '-D', data, '-o', settings, '-l', join(folder, 'log'), '-w', 'start');
  };
  await asNobody(`${BIN}/initdb`, '-A', 'trust', '-U', 'quantix', '--no-sync', '-D', data);
  await start();
  const made = { databases: 0 };
  const fresh = async (): Promise<string> => {
    const name = `state_${++made.databases}`;
    await execa(`${BIN}/createdb`, ['-h', folder, '-U', 'quantix', name]);
    return `postgres://quantix@localhost/${name}?host=${encodeURIComponent(folder)}`;
  };
  const dispose = async (): Promise<void> => {
    await stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { fresh, stop, start, [Symbol.asyncDispose]: dispose };
}
