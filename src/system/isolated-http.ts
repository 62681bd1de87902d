import type { Readable, Writable } from 'node:stream';
import { execa, type Options } from 'execa';
import { QxError } from '../errors.ts';
import type { HttpRequest, HttpResponse, Log } from '../ports.ts';
import { CONTROL_FD, FORMAT, type Order, printable } from './fetch/protocol.ts';
import { confinement } from './fetch/rights.ts';
import { outOfOrder, readSayings, type Saying } from './fetch/sayings.ts';
import { asRefusal, BoundedBody } from './http/bounded-body.ts';
import type { ClosableHttp, HttpOptions } from './http.ts';
import { killGroup } from './process.ts';

/**
 * HTTP for a program that runs as root: each request is a process of its own, which gives up what it may do before it hears
 * the first byte from the network. A server that takes that process over holds a pipe to us, and what comes out of it is
 * checked and bounded here once more, by our own clock.
 */

export interface IsolatedOptions extends HttpOptions {
  /** How this very executable is started, up to the name of a program. */
  readonly program: readonly string[];
  readonly log: Log;
  /** Asked at each request: a bundle that cannot be read now keeps nothing else from working. @throws QxError CONFIG_INVALID */
  readonly authorities?: () => Promise<HttpOptions>;
}

const PROGRAM = 'qx-fetch';
/** Loading the code, on a machine that is busy. */
const START_MS = 60_000;
/** The process has the same limits and is expected to name them first. */
const MARGIN_MS = 5_000;
const MAX_STDERR_BYTES = 16 << 10;

const OPTIONS = {
  env: {},
  extendEnv: false,
  cwd: '/',
  reject: false,
  buffer: false,
  stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  // Its own process group, so that what it has started can be killed with it.
  detached: true,
} as const satisfies Options;

export function isolatedHttp({ program, log, authorities, ...given }: IsolatedOptions): ClosableHttp {
  const running = new Set<Fetcher>();
  const prepared: { command?: Promise<readonly string[]> } = {};
  const send = async (url: string, request: Asked): Promise<HttpResponse> => {
    if (request.signal?.aborted) throw new QxError('CANCELLED', `the transfer from ${url} was cancelled`);
    const options = { ...given, ...(await authorities?.()) };
    prepared.command ??= prepare(program, log);
    const fetcher = start(await prepared.command);
    running.add(fetcher);
    void fetcher.exited.then(() => running.delete(fetcher));
    return ask(fetcher, url, options, request);
  };
  return {
    get: send,
    post: send,
    close: async () => {
      await Promise.all([...running].map(({ kill, exited }) => [kill(), exited][1]));
    },
  };
}

async function prepare(program: readonly string[], log: Log): Promise<readonly string[]> {
  const { command, keepsRightsAway } = await confinement();
  if (!keepsRightsAway) {
    log.warn('fetch_process', { detail: 'there is no setpriv here: the process that fetches could gain rights again' });
  }
  return [...command, ...program, PROGRAM];
}

interface Fetcher {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly sayings: AsyncGenerator<Saying, undefined>;
  readonly exited: Promise<void>;
  /** What it complained of so far; nothing that anybody vouches for. */
  complaint(): string;
  kill(): void;
}

function start([file = '', ...args]: readonly string[]): Fetcher {
  const child = execa(file, args, OPTIONS);
  const { stdin, stdout, stderr } = child;
  const control = child.stdio[CONTROL_FD] as unknown as Readable;
  const said = { text: '', bytes: 0 };
  const kill = (): void => {
    killGroup(child.pid);
    // What it may have left behind could keep them open.
    for (const pipe of [stdin, stdout, stderr, control]) pipe.destroy();
  };
  // The body is read when its head has been looked at, and a file was opened for it. When the process ends before that, Node
  // resumes what nobody listens to and throws it away; not where somebody waits to be told that there is something.
  stdout.on('readable', () => undefined);
  // Writing to a process that has ended already is told by its exit.
  for (const pipe of [stdin, stdout, control]) pipe.on('error', () => undefined);
  stderr.on('data', (bytes: Uint8Array) => {
    said.bytes += bytes.length;
    said.text = printable(said.text + new TextDecoder().decode(bytes));
    if (said.bytes <= MAX_STDERR_BYTES) return;
    // The other pipes stay: what it said before, its first word for one, has perhaps not been read yet.
    killGroup(child.pid);
    stderr.destroy();
  });
  return {
    stdin,
    stdout,
    sayings: readSayings(control),
    exited: new Promise((resolve) => {
      child.nodeChildProcess.once('exit', () => resolve());
      void child.then(() => resolve());
    }),
    complaint: () => said.text,
    kill,
  };
}

type Asked = HttpRequest & { readonly body?: string };

async function ask(
  fetcher: Fetcher,
  url: string,
  options: HttpOptions,
  { signal, ...request }: Asked,
): Promise<HttpResponse> {
  const { limits } = request;
  const { sayings, kill } = fetcher;
  const origin = URL.parse(url)?.origin ?? 'the address';
  signal?.addEventListener('abort', kill);
  void fetcher.exited.then(() => signal?.removeEventListener('abort', kill));
  try {
    const order: Order = { format: FORMAT, url, request, options };
    fetcher.stdin.write(`${JSON.stringify(order)}\n`);
    await begun(fetcher);
    const waitMs = limits.connectTimeoutMs + limits.headersTimeoutMs + MARGIN_MS;
    const head = await within(waitMs, sayings.next(), `${origin} sent no complete answer in time`);
    const { status, headers: answered } = expected('head', head.value);
    const transfer = { limits: { ...limits, windowMs: limits.windowMs + MARGIN_MS }, origin, signal };
    const chunks = { [Symbol.asyncIterator]: () => bodyOf(fetcher), destroy: kill };
    return { status, headers: answered, body: new BoundedBody(chunks, transfer) };
  } catch (error) {
    kill();
    throw asRefusal(error, origin, signal);
  }
}

/** Before the first byte from the network, so whatever goes wrong here is wrong on this side. @throws QxError IO */
async function begun({ sayings, exited, complaint }: Fetcher): Promise<void> {
  const { value } = await within(START_MS, sayings.next(), 'nothing').catch(() => ({ value: undefined }));
  if (value?.say === 'ready') return;
  await within(MARGIN_MS, exited, 'nothing').catch(() => undefined);
  throw new QxError('IO', `the process that fetches did not start: ${complaint() || 'it gave no reason'}`, {
    next: 'tail /var/log/quantix-node.log; free -m',
  });
}

async function* bodyOf({ stdout, sayings, kill }: Fetcher): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  try {
    for await (const chunk of stdout) {
      bytes += chunk.length;
      yield chunk;
    }
    const { value: last } = await sayings.next();
    if (expected('end', last).bytes !== bytes) throw outOfOrder('it counts other bytes than it sent');
    if (!(await sayings.next()).done) throw outOfOrder('it goes on after the end');
  } finally {
    kill();
  }
}

type Expected<Say extends Saying['say']> = Extract<Saying, { say: Say }>;

function expected<Say extends Saying['say']>(say: Say, saying: Saying | undefined): Expected<Say> {
  if (saying?.say === say) return saying as Expected<Say>;
  if (saying?.say === 'error') throw new QxError(saying.code, saying.detail);
  throw saying ? outOfOrder(`it says ${saying.say} when it is time for ${say}`) : lost();
}

const lost = (): QxError => new QxError('SERVER_UNREACHABLE', 'the process that fetches has ended in the middle');

async function within<T>(timeoutMs: number, work: Promise<T>, detail: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new QxError('SERVER_UNREACHABLE', detail)), timeoutMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
