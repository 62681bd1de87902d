import { Agent, type Dispatcher } from 'undici';
import { asQxError, QxError } from '../errors.ts';
import type { Http, HttpLimits, HttpResponse } from '../ports.ts';

/**
 * HTTP for bytes that nobody vouches for yet. No redirect is followed, nothing is decompressed, no proxy and no setting is
 * taken from the environment, and every way of never ending (connecting, headers, body) has its limit.
 */

export interface HttpOptions {
  /** PEM; trusted instead of the certificates that come with Node. */
  readonly ca?: string;
  /** PEM; shown to servers that ask for it. */
  readonly clientCertificate?: { readonly cert: string; readonly key: string };
}

export interface ClosableHttp extends Http {
  /** Ends every connection, those in use too. */
  close(): Promise<void>;
}

const MAX_HEADER_BYTES = 16 << 10;

export function undiciHttp(options: HttpOptions = {}): ClosableHttp {
  // The time to connect is a property of undici's agents, not of its requests.
  const agents = new Map<number, Agent>();
  const agentFor = (connectTimeoutMs: number): Agent => {
    const agent = agents.get(connectTimeoutMs) ?? newAgent(options, connectTimeoutMs);
    agents.set(connectTimeoutMs, agent);
    return agent;
  };
  return {
    get: (url, request) => get(agentFor(request.limits.connectTimeoutMs), url, request),
    close: async () => {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
      agents.clear();
    },
  };
}

const newAgent = ({ ca, clientCertificate }: HttpOptions, timeout: number): Agent =>
  new Agent({
    allowH2: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    // Each of these would otherwise be taken from an environment variable.
    useMilo: false,
    connect: { timeout, rejectUnauthorized: true, ...(ca === undefined ? {} : { ca }), ...clientCertificate },
  });

type Request = Parameters<Http['get']>[1];

async function get(agent: Agent, url: string, { headers, limits, signal }: Request): Promise<HttpResponse> {
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
    const response = await agent.request({
      origin,
      path: pathname + search,
      method: 'GET',
      headers: { ...headers },
      headersTimeout: limits.headersTimeoutMs,
      bodyTimeout: 0,
      signal: signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]),
    });
    return {
      status: response.statusCode,
      headers: plainHeaders(response.headers),
      body: new BoundedBody(response.body, limits, origin, signal),
    };
  } catch (error) {
    throw asRefusal(error, origin, signal);
  } finally {
    clearTimeout(timer);
  }
}

function plainHeaders(headers: Dispatcher.ResponseData['headers']): Record<string, string> {
  const entries = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name.toLowerCase(), Array.isArray(value) ? value.join(', ') : value] as const],
  );
  return Object.fromEntries(entries);
}

function asRefusal(error: unknown, origin: string, signal: AbortSignal | undefined): QxError {
  if (signal?.aborted === true) return new QxError('CANCELLED', `the transfer from ${origin} was cancelled`);
  if (error instanceof QxError) return error;
  return new QxError('SERVER_UNREACHABLE', `${origin} cannot be reached: ${reasonOf(error)}`, { cause: error });
}

/** Connecting to several addresses fails with one error without a message that holds the others. */
const reasonOf = (error: unknown): string =>
  error instanceof AggregateError ? error.errors.map(reasonOf).join('; ') : asQxError(error).message;

type UndiciBody = Dispatcher.ResponseData['body'];

/** The body, cut off when it is too long or too slow. Only time spent waiting for the server counts against it. */
class BoundedBody implements AsyncIterableIterator<Uint8Array> {
  private totalBytes = 0;
  private windowBytes = 0;
  private waitedMs = 0;
  private readonly chunks: AsyncIterator<Uint8Array>;
  private readonly body: UndiciBody;
  private readonly limits: HttpLimits;
  private readonly origin: string;
  private readonly signal: AbortSignal | undefined;

  constructor(body: UndiciBody, limits: HttpLimits, origin: string, signal: AbortSignal | undefined) {
    this.body = body;
    this.limits = limits;
    this.origin = origin;
    this.signal = signal;
    this.chunks = body[Symbol.asyncIterator]();
    // Destroying the body makes it emit an error; what reads it has been told another way.
    body.on('error', () => undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    try {
      const { done, value } = await this.timed();
      if (done === true) return { done, value: undefined };
      this.count(value);
      return { value };
    } catch (error) {
      this.body.destroy();
      throw asRefusal(error, this.origin, this.signal);
    }
  }

  /** Leaves the rest unread: the connection is of no use any more and is closed. */
  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.body.destroy();
    return { done: true, value: undefined };
  }

  private async timed(): Promise<IteratorResult<Uint8Array, unknown>> {
    const startMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.stalled()), this.leftMs());
    });
    try {
      return await Promise.race([this.chunks.next(), stalled]);
    } finally {
      clearTimeout(timer);
      this.waitedMs += performance.now() - startMs;
    }
  }

  /** A window that has its bytes already lets the next one begin, all of it spent waiting. */
  private leftMs(): number {
    const { windowMs, minBytesPerWindow } = this.limits;
    const hasEnough = this.windowBytes >= minBytesPerWindow;
    return windowMs - this.waitedMs + (hasEnough ? windowMs : 0);
  }

  private count(chunk: Uint8Array): void {
    const { maxBytes, windowMs } = this.limits;
    this.totalBytes += chunk.length;
    this.windowBytes += chunk.length;
    if (this.totalBytes > maxBytes) {
      throw new QxError('RESPONSE_TOO_LARGE', `${this.origin} sent more than the expected ${maxBytes} bytes`);
    }
    // With too few bytes the timer has the last word: it fires before a window can be full.
    if (this.waitedMs < windowMs) return;
    this.waitedMs = 0;
    this.windowBytes = 0;
  }

  private stalled(): QxError {
    const { minBytesPerWindow, windowMs } = this.limits;
    return new QxError(
      'DOWNLOAD_STALLED',
      `${this.origin} sent less than ${minBytesPerWindow} bytes in ${windowMs} ms`,
    );
  }
}
