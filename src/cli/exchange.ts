import { type RequestOptions as HttpOptions, request as httpRequest, type IncomingMessage } from 'node:http';
import { QxError } from '../errors.ts';
import { type ParamsOf, pathOf, type QueryOf, type Route } from '../format/route.ts';
import { socketPath } from './socket.ts';

/** One call of a row of a route table, over a Unix socket or to an address; no redirect is followed, no proxy is asked. */

export type Endpoint =
  | { readonly socket: string }
  | {
      readonly url: URL;
      readonly token: string;
      /** PEM; trusted instead of the authorities that come with Node. */
      readonly ca?: string;
    };

export interface Sent {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly signal: AbortSignal;
  /** Of a connection on which nothing comes for so long, no more is expected. */
  readonly silenceMs?: number;
}

const MAX_ANSWER_BYTES = 4 << 20;

export async function send<R extends Route>(endpoint: Endpoint, route: R, sent: Sent): Promise<IncomingMessage> {
  const { method } = route;
  const path = pathOf(route, (sent.params ?? {}) as ParamsOf<R>, (sent.query ?? {}) as QueryOf<R>);
  const content = sent.body === undefined ? {} : { 'content-type': 'application/json' };
  if ('url' in endpoint) return request(toAddress(endpoint, { method, path, headers: content }), sent);
  const short = await socketPath(endpoint.socket);
  try {
    const options = { socketPath: short.path, method, path, headers: { host: 'localhost', ...content } };
    return await request(options, sent);
  } finally {
    await short.close();
  }
}

function toAddress(
  { url, token, ca }: Extract<Endpoint, { url: URL }>,
  { path, headers, ...options }: { method: string; path: string; headers: object },
): HttpOptions & { ca?: string } {
  return {
    ...options,
    protocol: url.protocol,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    ...(url.port === '' ? {} : { port: url.port }),
    path: url.pathname.replace(/\/+$/, '') + path,
    headers: { ...headers, authorization: `Bearer ${token}` },
    ...(ca === undefined ? {} : { ca }),
  };
}

async function request(options: HttpOptions, { body, signal, silenceMs }: Sent): Promise<IncomingMessage> {
  // Node reads the authorities that the environment names as soon as TLS is loaded, which the agent has to leave behind first.
  const start = options.protocol === 'https:' ? (await import('node:https')).request : httpRequest;
  return new Promise((resolve, reject) => {
    const started = start({ ...options, signal });
    started.on('response', resolve).on('error', reject);
    if (silenceMs !== undefined)
      started.setTimeout(silenceMs, () => started.destroy(new DOMException('silent', 'TimeoutError')));
    started.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

export async function readAnswer(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new QxError('RESPONSE_TOO_LARGE', 'the answer has too many bytes');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
