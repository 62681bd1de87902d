import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Code, ERRORS, QxError } from '../errors.ts';
import type { BodyOf, ResponseOf, Route } from '../format/route.ts';
import { readAnswer, send } from './exchange.ts';
import { serverSentEvents } from './server-sent-events.ts';

/** Asks the agent of a host over its Unix socket, by the same table of routes that it answers from. */
export interface AgentClient {
  call<R extends Route>(route: R, request?: AgentRequest<R>): Promise<ResponseOf<R>>;
  /** Server-sent events as they come, until the signal is aborted. @throws QxError AGENT_DOWN also when the agent goes away */
  events<R extends Route>(route: R, signal: AbortSignal): AsyncIterable<ResponseOf<R>>;
}

interface AgentRequest<R extends Route> {
  readonly body?: BodyOf<R>;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const TIMEOUT_MS = 10_000;
/** A quiet agent still says every ten seconds that it is there. */
const SILENCE_MS = 60_000;

/** How an agent that is being started is waited for. */
export interface Waiting {
  /** The file with the pid of its supervisor. */
  readonly supervisor: string;
  /** It has to be waited for; told once for each call. */
  readonly onWait: () => void;
}

export const agentClient = (socket: string, waiting?: Waiting): AgentClient => ({
  call: async <R extends Route>(route: R, request: AgentRequest<R> = {}) => {
    const ask = () => exchange(socket, route, request);
    const answered = waiting === undefined ? ask() : onceStarted(ask, waiting, request.signal);
    const { status, bytes } = await answered.catch((error: unknown) => {
      throw asUnanswered(error, socket);
    });
    const answer = parse(bytes);
    if (status < 300) return answer as ResponseOf<R>;
    throw asRefused(answer, status);
  },
  events: (route, signal) => streamed(socket, route, signal),
});

/** An agent that replaces itself is back in seconds, and a script that goes on right after `apply` should not have to know. */
const START_WITHIN_MS = 30_000;
const START_POLL_MS = 200;

/** Nothing was sent to an agent that does not listen, so asking again is safe whatever is asked. */
async function onceStarted<T>(ask: () => Promise<T>, waiting: Waiting, signal?: AbortSignal): Promise<T> {
  const deadlineMs = performance.now() + START_WITHIN_MS;
  for (let polls = 0; ; polls++) {
    try {
      return await ask();
    } catch (error) {
      const isAbsent = ABSENT.has((error as { code?: string }).code ?? '');
      if (!isAbsent || performance.now() > deadlineMs || !(await isSupervised(waiting.supervisor))) throw error;
      if (polls === 0) waiting.onWait();
      await sleep(START_POLL_MS, undefined, signal === undefined ? {} : { signal });
    }
  }
}

const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED']);

async function isSupervised(pidFile: string): Promise<boolean> {
  try {
    const pid = Number((await readFile(pidFile, 'utf8')).trim());
    return Number.isInteger(pid) && pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function exchange<R extends Route>(
  socket: string,
  route: R,
  { body, timeoutMs = TIMEOUT_MS, signal }: AgentRequest<R>,
): Promise<{ status: number; bytes: Buffer }> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const ended = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
  const response = await send({ socket }, route, { body, signal: ended });
  return { status: response.statusCode ?? 0, bytes: await readAnswer(response) };
}

async function* streamed<R extends Route>(
  socket: string,
  route: R,
  signal: AbortSignal,
): AsyncGenerator<ResponseOf<R>> {
  try {
    const response = await send({ socket }, route, { signal, silenceMs: SILENCE_MS });
    const status = response.statusCode ?? 0;
    if (status >= 300) throw asRefused(parse(await readAnswer(response)), status);
    for await (const { type, data } of serverSentEvents(response)) yield { type, data: parse(data) } as ResponseOf<R>;
  } catch (error) {
    if (signal.aborted) return;
    throw asUnanswered(error, socket);
  }
  if (!signal.aborted) throw new QxError('AGENT_DOWN', 'the agent of this host has ended', { next: START });
}

const DOWN: Readonly<Record<string, string>> = {
  ENOENT: 'it has no socket at',
  ENOTDIR: 'it has no socket at',
  ECONNREFUSED: 'nobody listens on',
  ECONNRESET: 'it hung up on',
  EPIPE: 'it hung up on',
};

function asUnanswered(error: unknown, socket: string): unknown {
  const { name, code = '', cause } = error as { name?: string; code?: string; cause?: { name?: string } };
  if (code === 'EACCES' || code === 'EPERM') {
    return new QxError('FORBIDDEN', 'only root may speak to the agent of this host', {
      next: 'run it as root',
      cause: error,
    });
  }
  if (name === 'TimeoutError' || cause?.name === 'TimeoutError') {
    return new QxError('AGENT_DOWN', 'the agent of this host does not answer', { next: START, cause: error });
  }
  if (DOWN[code] === undefined) return error;
  const detail = `the agent of this host is not running: ${DOWN[code]} ${socket}`;
  return new QxError('AGENT_DOWN', detail, { next: START, cause: error });
}

const START = 'rc-service quantix-node start, and its log /var/log/quantix-node.log';

function parse(bytes: Buffer | string): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch (error) {
    throw new QxError('INTERNAL', 'the agent gave an answer that is no JSON', {
      next: 'tail /var/log/quantix-node.log',
      cause: error,
    });
  }
}

function asRefused(answer: unknown, status: number): QxError {
  const { code, detail, next } = { ...(answer as { code?: unknown; detail?: unknown; next?: unknown } | null) };
  return new QxError(knownCode(code), typeof detail === 'string' ? detail : `the agent answered ${status}`, {
    ...(typeof next === 'string' ? { next } : {}),
  });
}

/** A newer agent may know codes that this program does not. */
export const knownCode = (code: unknown): Code =>
  typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as Code) : 'INTERNAL';
