import { buffer } from 'node:stream/consumers';
import { Agent, type Dispatcher } from 'undici';
import { QxError } from '../errors.ts';
import { detach } from '../format/envelope.ts';
import type { Http, HttpRequest, HttpResponse, Post, TlsIdentity } from '../ports.ts';
import { answerOf } from './http/answer.ts';
import { asRefusal, BoundedBody } from './http/bounded-body.ts';
import { connectTo } from './http/connect.ts';

/**
 * HTTP for bytes that nobody vouches for yet. No redirect is followed, nothing is decompressed, no proxy and no setting is
 * taken from the environment, and every way of never ending (connecting, headers, body) has its limit.
 */

export interface HttpOptions {
  /** PEM; trusted instead of the certificates that come with Node. */
  readonly ca?: string;
}

export interface ClosableHttp extends Http, Post {
  /** Ends every connection, those in use too. */
  close(): Promise<void>;
}

const MAX_HEADER_BYTES = 16 << 10;

export function undiciHttp(options: HttpOptions = {}): ClosableHttp {
  // Connecting is a matter of undici's agents, not of its requests.
  const agents = new Map<string, Agent>();
  const agentFor = ({ limits: { connectTimeoutMs }, tls = {} }: HttpRequest): Agent => {
    const name = JSON.stringify([connectTimeoutMs, tls]);
    const agent = agents.get(name) ?? newAgent({ ...options, ...tls }, connectTimeoutMs);
    agents.set(name, agent);
    return agent;
  };
  return {
    get: (url, request) => ask(agentFor(request), url, request),
    post: (url, request) => ask(agentFor(request), url, request),
    close: async () => {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
      agents.clear();
    },
  };
}

const newAgent = (options: HttpOptions & TlsIdentity, timeoutMs: number): Agent =>
  new Agent({
    allowH2: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    // This would otherwise be taken from an environment variable.
    useMilo: false,
    connect: connectTo(options, timeoutMs),
  });

async function ask(agent: Agent, url: string, request: HttpRequest & { body?: string }): Promise<HttpResponse> {
  const { headers, limits, signal, isEnvelope, body: sent } = request;
  const { protocol, username, password, origin, pathname, search } = new URL(url);
  if ((protocol !== 'http:' && protocol !== 'https:') || username !== '' || password !== '') {
    throw new QxError('BAD_REQUEST', 'only plain http and https addresses are fetched');
  }
  const deadline = new AbortController();
  // undici starts its own clock anew with each header line: a server could send one a second for ever.
  const timer = setTimeout(
    () => deadline.abort(new QxError('SERVER_UNREACHABLE', `${origin} sent no complete answer in time`)),
    limits.connectTimeoutMs + limits.headersTimeoutMs,
  );
  try {
    const answer = await answerOf(
      agent,
      {
        origin,
        path: pathname + search,
        ...(sent === undefined ? { method: 'GET' } : { method: 'POST', body: sent }),
        headers: { ...headers },
        headersTimeout: limits.headersTimeoutMs,
        bodyTimeout: 0,
      },
      signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]),
    );
    const body = new BoundedBody(answer.body, { limits, origin, signal });
    return {
      status: answer.status,
      headers: plainHeaders(answer.headers),
      body: isEnvelope === true && answer.status === 200 ? detached(body) : body,
    };
  } catch (error) {
    throw asRefusal(error, origin, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Nothing is read before somebody asks for it, and a body that nobody wants can still be let go of. */
function detached(body: BoundedBody): AsyncIterableIterator<Uint8Array, undefined> {
  const state = { isRead: false };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: async () => {
      if (state.isRead) return { done: true, value: undefined };
      state.isRead = true;
      return { done: false, value: detach(await buffer(body)) };
    },
    return: () => body.return(),
  };
}

function plainHeaders(headers: Dispatcher.ResponseData['headers']): Record<string, string> {
  const entries = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name.toLowerCase(), Array.isArray(value) ? value.join(', ') : value] as const],
  );
  return Object.fromEntries(entries);
}
