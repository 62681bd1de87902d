import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { type AtEnd, atTestEnd } from './at-end.ts';

/** The built update server as a process, which can be killed and started again at the same address. */

export const TOKEN = 'journey-token-of-more-than-32-bytes-01';

export interface JourneyServer {
  readonly url: string;
  readonly port: number;
  start(): Promise<void>;
  /** Like a power cut: nothing is finished. */
  kill(): Promise<void>;
}

export async function journeyServer(folder: string, keyring: string, atEnd: AtEnd = atTestEnd): Promise<JourneyServer> {
  const releases = join(folder, 'releases');
  await mkdir(releases);
  const server = await startedServer({ RELEASE_DIR: releases, KEYRING: keyring }, ['--dev'], atEnd);
  return { ...server, url: `http://127.0.0.1:${server.port}` };
}

/** The part of the server that fleets know: over TLS, with the releases that the other one had. */
export async function fleetServer(folder: string, environment: Environment): Promise<JourneyServer> {
  const server = await startedServer({ RELEASE_DIR: join(folder, 'releases'), ...environment }, [], atTestEnd);
  return { ...server, url: `https://127.0.0.1:${server.port}` };
}

type Environment = Readonly<Record<string, string>>;

async function startedServer(environment: Environment, args: readonly string[], atEnd: AtEnd) {
  const first = await run({ ...environment, LISTEN_ADDR: '127.0.0.1:0' }, args);
  const { port } = first;
  const state = { server: first };
  const kill = async (): Promise<void> => {
    state.server.process.kill('SIGKILL');
    await state.server.process;
  };
  const start = async (): Promise<void> => {
    state.server = await run({ ...environment, LISTEN_ADDR: `127.0.0.1:${port}` }, args);
  };
  atEnd(kill);
  return { port, kill, start };
}

async function run(environment: Environment, args: readonly string[]) {
  const server = execa('dist/qx-update-server', args, {
    env: { PATH: process.env.PATH ?? '', PUBLISH_TOKEN: TOKEN, ...environment },
    extendEnv: false,
    stdin: 'ignore',
    reject: false,
    all: true,
  });
  const printed: string[] = [];
  const port = await new Promise<number>((resolve, reject) => {
    server.all.on('data', (data: Buffer) => {
      printed.push(data.toString());
      const line = /"port":([0-9]+)[^\n]*"msg":"listening"/.exec(printed.join(''));
      if (line) resolve(Number(line[1]));
    });
    server.then(() => reject(new Error(`the server did not start:\n${printed.join('')}`)), reject);
  });
  return { process: server, port };
}
