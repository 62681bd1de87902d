import { mkdir } from 'node:fs/promises';
import { execa } from 'execa';

/** The built update server as a process, on a free port of loopback. */

export const TOKEN = 'bench-token-of-at-least-32-bytes-01';

export interface UpdateServer extends AsyncDisposable {
  readonly url: string;
}

/** `releases` is made; the files of the server lie beside it. */
export async function startUpdateServer(
  releases: string,
  environment: Readonly<Record<string, string>>,
): Promise<UpdateServer> {
  await mkdir(releases, { recursive: true });
  const server = execa('dist/qx-update-server', ['--dev'], {
    env: {
      RELEASE_DIR: releases,
      SERVER_SOCKET: `${releases}.sock`,
      PUBLISH_TOKEN: TOKEN,
      LISTEN_ADDR: '127.0.0.1:0',
      ...environment,
    },
    stdin: 'ignore',
    reject: false,
    all: true,
    buffer: false,
  });
  const printed: string[] = [];
  const port = await new Promise<string>((resolve, reject) => {
    server.all.on('data', (data: Buffer) => {
      if (printed.length < 100) printed.push(data.toString());
      const line = /"port":([0-9]+)[^\n]*"msg":"listening"/.exec(printed.join(''));
      if (line?.[1] !== undefined) resolve(line[1]);
    });
    server.then(() => reject(new Error(`the server did not start:\n${printed.join('')}`)), reject);
  });
  const stop = async (): Promise<void> => {
    server.kill('SIGTERM');
    await server;
  };
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: stop };
}
