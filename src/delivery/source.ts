import { foreignAnswer, LOG_IN } from '../core/foreign.ts';
import { readRetryAfter } from '../core/retry.ts';
import { QxError } from '../errors.ts';
import type { Channel, Product } from '../format/manifest.ts';
import { type ParamsOf, pathOf, type QueryOf, type Route } from '../format/route.ts';
import { SERVER_ROUTES } from '../format/routes.ts';
import type { HttpLimits, HttpResponse } from '../ports.ts';

/**
 * Where releases are fetched from. Every address is composed here, from the configured servers and the route table; nothing
 * that a manifest or a server says is ever an address, and no redirect is followed.
 */

export interface Source {
  readonly product: Product;
  readonly channel: Channel;
  /** The server and then its mirrors, in the order in which they are tried; without a slash at the end. */
  readonly bases: readonly [string, ...string[]];
}

export interface SourceConfig {
  readonly serverUrl: string;
  readonly mirrors: readonly string[];
  readonly product: Product;
  readonly channel: Channel;
}

/** @throws QxError CONFIG_INVALID */
export const sourceOf = ({ serverUrl, mirrors, product, channel }: SourceConfig): Source => ({
  product,
  channel,
  bases: [baseOf(serverUrl), ...mirrors.map(baseOf)],
});

function baseOf(text: string): string {
  const url = URL.parse(text);
  const isPlain = url !== null && url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (isPlain && (url.protocol === 'http:' || url.protocol === 'https:')) return url.href.replace(/\/+$/, '');
  throw new QxError('CONFIG_INVALID', `${JSON.stringify(text.slice(0, 200))} is not the address of an update server`, {
    next: 'updates.server_url and updates.mirrors look like https://updates.example:9000',
  });
}

/** The signed envelope of the newest release of the channel, or of one version. */
export const envelopeUrl = (base: string, { product, channel }: Source, version?: string): string =>
  version === undefined
    ? compose(base, SERVER_ROUTES.latestSigned, { product }, { channel })
    : compose(base, SERVER_ROUTES.releaseSigned, { product, version }, { channel });

export const artifactUrl = (base: string, { product, channel }: Source, version: string, artifact: string): string =>
  compose(base, SERVER_ROUTES.artifact, { product, version, artifact }, { channel });

function compose<R extends Route>(base: string, route: R, params: ParamsOf<R>, query: QueryOf<R>): string {
  const text = base + pathOf(route, params, query);
  // A name that a URL would resolve (`..`) can only come from a caller that skipped the manifest's grammar.
  if (URL.parse(text)?.href === text) return text;
  throw new QxError('PATH_NOT_ALLOWED', `${JSON.stringify(text.slice(0, 300))} would lead somewhere else`);
}

export type WaitLimits = Omit<HttpLimits, 'maxBytes'>;

/** Patient enough for a poor line to a remote site, not for a server that means to hold us. */
export const WAIT_LIMITS: WaitLimits = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  minBytesPerWindow: 16 << 10,
  windowMs: 60_000,
};

/** Compressed on the way, the bytes would be others than those that were signed. */
export const PLAIN_BYTES = { 'accept-encoding': 'identity' } as const;

/** Nobody vouches for it, and nothing that is held goes for it. Null: it may be the answer of a server. */
export function foreignError(response: HttpResponse, url: string): QxError | null {
  const foreign = foreignAnswer(response);
  if (foreign === null) return null;
  return new QxError('SERVER_UNREACHABLE', `${url} was answered by ${foreign}`, { next: LOG_IN });
}

/** What a status means when it is not one that the caller was waiting for. */
export function statusError(response: HttpResponse, url: string): QxError {
  const { status, headers } = response;
  const foreign = foreignError(response, url);
  if (foreign !== null) return foreign;
  if (status === 304) return new QxError('SERVER_ERROR', `${url} answered 304, which was not asked for`);
  if (status >= 300 && status < 400) {
    // Where it points to is not even named: it is the server's word, and ends up in logs and on pages.
    return new QxError('REDIRECT_REFUSED', `${url} answered with a redirect (${status}), which is not followed`, {
      next: 'log in to the network where it asks for that, or set updates.server_url to the address that serves releases itself',
    });
  }
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    return new QxError('SERVER_ERROR', `${url} answered ${status}`);
  }
  const encoding = headers['content-encoding'];
  // The server's own word, on its way to a terminal: 0x9b alone would begin a control sequence there.
  const plain = encoding?.slice(0, 40).replaceAll(/[^!-~]/g, '?');
  const detail = plain === undefined ? `answered ${status}` : `answered ${status} in encoding ${plain}`;
  return new QxError('SERVER_REFUSED', `${url} ${detail}`);
}

export const isEncoded = ({ headers }: HttpResponse): boolean =>
  headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity';

export const retryAfterMs = ({ headers }: HttpResponse, nowMs: number): number | null =>
  readRetryAfter(headers['retry-after'], nowMs);

/** An ETag that promises the same bytes; a weak one (`W/"..."`) does not. */
export const strongEtag = (etag: string | undefined): string | null =>
  etag !== undefined && etag.length <= 256 && /^"[\x21\x23-\x7e]*"$/.test(etag) ? etag : null;

/** Lets go of an answer without reading it. */
export const discard = async ({ body }: HttpResponse): Promise<void> => {
  await body[Symbol.asyncIterator]().return?.();
};
