import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { command, say } from './show.ts';

export interface DemoServer extends AsyncDisposable {
  readonly url: string;
  readonly token: string;
  readonly releases: string;
}

const URL = 'http://127.0.0.1:9000';
const START_TIMEOUT_MS = 15_000;

export async function startServer(folder: string): Promise<DemoServer> {
  const releases = join(folder, 'releases');
  await mkdir(releases);
  const token = randomBytes(32).toString('hex');
  command('qx-update-server --dev');
  const server = execa('dist/qx-update-server', ['--dev'], {
    env: { RELEASE_DIR: releases, PUBLISH_TOKEN: token },
    stdin: 'ignore',
    reject: false,
    all: true,
    buffer: { all: true },
  });
  const stop = async (): Promise<void> => {
    server.kill('SIGTERM');
    await server;
  };
  const died = server.then(({ all }) => Promise.reject(new Error(`the update server ended:\n${all}`)));
  died.catch(() => undefined);
  try {
    await Promise.race([untilHealthy(), died]);
  } catch (error) {
    await stop();
    throw error;
  }
  say(`it listens on ${URL} and keeps releases in ${releases}`);
  return { url: URL, token, releases, [Symbol.asyncDispose]: stop };
}

async function untilHealthy(): Promise<void> {
  const endMs = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const healthy = await fetch(`${URL}/health`).then(
      (response) => response.ok,
      () => false,
    );
    if (healthy) return;
    if (performance.now() > endMs) throw new Error(`no answer from ${URL}/health`);
    await sleep(100);
  }
}
