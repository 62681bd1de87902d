import { execa } from 'execa';
import { onTestFinished } from 'vitest';
import { built } from './built.ts';

export const TOKEN = 'test-token-of-more-than-32-bytes-0001';

export interface RunningServer {
  readonly url: string;
  readonly pid: number;
  /** Everything that it has printed so far. */
  output(): string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<{ readonly exitCode: number | undefined }>;
}

type Environment = Readonly<Record<string, string>>;

/** `qx-update-server` with nothing in its environment but what is given. */
export function runServer(environment: Environment, args: readonly string[] = []) {
  // Each its own, where the usual place is one for the whole machine, or for all folders beside each other.
  const { RELEASE_DIR: own } = environment;
  const apart = own && { SERVER_SOCKET: `${own}.sock`, STATE_DATABASE_URL: `sqlite:${own}.state/fleet.db` };
  return execa(built('qx-update-server'), args, {
    env: { PATH: process.env.PATH ?? '', ...apart, ...environment },
    extendEnv: false,
    reject: false,
    all: true,
  });
}

/** Starts a server on a free port and waits until it listens. It is killed when the test is over. */
export async function startServer(environment: Environment, args: readonly string[] = []): Promise<RunningServer> {
  const server = runServer({ LISTEN_ADDR: '127.0.0.1:0', PUBLISH_TOKEN: TOKEN, ...environment }, args);
  onTestFinished(() => void server.kill('SIGKILL'));
  const printed: string[] = [];
  const port = await new Promise<number>((resolve, reject) => {
    server.all.on('data', (data: Buffer) => {
      printed.push(data.toString());
      const line = /"port":([0-9]+)[^\n]*"msg":"listening"/.exec(printed.join(''));
      if (line) resolve(Number(line[1]));
    });
    server.then(() => reject(new Error(`the server did not start:\n${printed.join('')}`)), reject);
  });
  return {
    url: `${environment.TLS_CERT ? 'https' : 'http'}://127.0.0.1:${port}`,
    pid: server.pid ?? 0,
    output: () => printed.join(''),
    kill: (signal) => void server.kill(signal),
    ended: server.then(({ exitCode }) => ({ exitCode })),
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly text: string;
}

/** An independent client: the one in the user's documents. */
export async function curl(...args: readonly string[]): Promise<Answer> {
  const { stdout } = await execa('curl', ['-sS', '-i', '--max-time', '60', ...args], {
    encoding: 'buffer',
    stripFinalNewline: false,
  });
  return parse(Buffer.from(stdout));
}

function parse(bytes: Buffer): Answer {
  const end = bytes.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = bytes.subarray(0, end).toString().split('\r\n');
  const body = new Uint8Array(bytes.subarray(end + 4));
  // An interim answer (100 Continue) comes before the real one.
  if (/^HTTP\/[0-9.]+ 1/.test(statusLine)) return parse(Buffer.from(body));
  const headers = lines.map((line) => [line.split(':', 1)[0]?.toLowerCase() ?? '', line.replace(/^[^:]*:\s*/, '')]);
  const status = Number(statusLine.split(' ')[1]);
  return { status, headers: Object.fromEntries(headers), body, text: Buffer.from(body).toString() };
}
