import type { Command } from 'commander';
import { type Code, ERRORS, QxError } from '../../errors.ts';
import { DOCUMENT_LIMITS } from '../../format/json.ts';
import type { Channel, Product } from '../../format/manifest.ts';
import { pathOf } from '../../format/route.ts';
import { SERVER_ROUTES } from '../../format/routes.ts';
import type { UploadLimits, UploadPart } from '../../ports/upload.ts';
import type { HttpLimits } from '../../ports.ts';
import { printable } from '../render.ts';
import type { Output } from '../verb.ts';
import type { ReleaseTools } from './tools.ts';

/** The update server as the release tool sees it. */

export interface ServerOptions {
  readonly server?: string;
  readonly token?: string;
  readonly tokenFile?: string;
}

const withServer = (command: Command): Command =>
  command.option('--server <url>', 'update server (default: $QX_SERVER, else http://127.0.0.1:9000)');

export const withToken = (command: Command): Command =>
  withServer(command)
    .option('--token <token>', 'publish token; visible to other users of this machine, unlike the next two')
    .option('--token-file <file>', 'file that holds the publish token (default: $QX_TOKEN or $PUBLISH_TOKEN itself)');

const LIMITS: HttpLimits = {
  maxBytes: DOCUMENT_LIMITS.maxBytes,
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  minBytesPerWindow: 1024,
  windowMs: 30_000,
};

/** The server hashes a whole image before it answers. */
const UPLOAD_LIMITS: UploadLimits = {
  maxResponseBytes: DOCUMENT_LIMITS.maxBytes,
  connectTimeoutMs: 10_000,
  stallTimeoutMs: 300_000,
};

export function serverUrl(tools: ReleaseTools, { server }: ServerOptions): URL {
  const text = server ?? (tools.env.QX_SERVER || 'http://127.0.0.1:9000');
  const url = URL.parse(text);
  const isPlain = url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.username === '';
  if (!isPlain) throw new QxError('USAGE', '--server has to be an address such as https://updates.example.org:9000');
  return url;
}

const addressOf = (server: URL, path: string): string => server.href.replace(/\/+$/, '') + path;

const LOOPBACK = /^(?:localhost|127\.[0-9.]+|\[::1\])$/;

/** The token is never printed, and never goes where the command line did not send it. */
export async function publishToken(tools: ReleaseTools, output: Output, options: ServerOptions): Promise<string> {
  const token =
    options.token ?? (await tokenIn(tools, options.tokenFile)) ?? (tools.env.QX_TOKEN || tools.env.PUBLISH_TOKEN);
  if (token === undefined || token === '') {
    const next = 'QX_TOKEN=..., or --token-file FILE; a server that runs with --dev takes any';
    throw new QxError('TOKEN_REQUIRED', 'publishing needs a token', { next });
  }
  if (!/^[\x21-\x7e]+$/.test(token)) throw new QxError('USAGE', 'the token has characters that no token has');
  const { protocol, hostname } = serverUrl(tools, options);
  if (protocol === 'http:' && !LOOPBACK.test(hostname)) {
    output.note(
      `warning: the token goes to ${hostname} unencrypted, where whoever listens can use it; publish over https`,
    );
  }
  return token;
}

async function tokenIn(tools: ReleaseTools, file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const bytes = await tools.files.read(await tools.followed(file), 4096);
  if (bytes === null) throw new QxError('NOT_FOUND', `there is no file ${file}`);
  return new TextDecoder().decode(bytes).trim();
}

export interface ReleaseAddress {
  readonly product: Product;
  readonly channel: Channel;
  readonly version: string;
}

/** The signed envelope of one release. @throws NOT_FOUND and whatever else the server says */
export function fetchEnvelope(tools: ReleaseTools, server: URL, release: ReleaseAddress): Promise<Uint8Array> {
  const { product, version, channel } = release;
  return get(tools, server, pathOf(SERVER_ROUTES.releaseSigned, { product, version }, { channel }));
}

/** The envelope of the newest release in a channel; null when there is none yet. */
export async function fetchLatest(tools: ReleaseTools, server: URL, product: Product, channel: Channel) {
  try {
    return await get(tools, server, pathOf(SERVER_ROUTES.latestSigned, { product }, { channel }));
  } catch (error) {
    if (error instanceof QxError && (error.code === 'NO_RELEASE' || error.code === 'NOT_FOUND')) return null;
    throw error;
  }
}

async function get(tools: ReleaseTools, server: URL, path: string): Promise<Uint8Array> {
  const { status, body } = await tools.http.get(addressOf(server, path), { limits: LIMITS });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (status !== 200) throw refusalOf(status, bytes, server);
  return bytes;
}

const RETRY_DELAYS_MS = [1000, 4000];

/**
 * Publishes over one form. Sent again when the network failed, which is safe: what was published appears at once and whole,
 * and the same release a second time changes nothing.
 */
export async function publishParts(
  tools: ReleaseTools,
  output: Output,
  target: { server: URL; token: string; product: Product },
  parts: readonly UploadPart[],
): Promise<void> {
  const url = addressOf(target.server, pathOf(SERVER_ROUTES.publish, { product: target.product }, {}));
  const headers = { authorization: `Bearer ${target.token}`, accept: 'application/json' };
  const onSent = (done: number, total: number) => output.progress.report({ label: 'publish', done, total });
  for (let attempt = 0; ; attempt++) {
    try {
      const { status, body } = await tools.upload.post(url, { headers, parts, limits: UPLOAD_LIMITS, onSent });
      if (status !== 200 && status !== 201) throw refusalOf(status, body, target.server);
      return;
    } catch (error) {
      const delayMs = RETRY_DELAYS_MS[attempt];
      if (!(error instanceof QxError) || !ERRORS[error.code].retry || delayMs === undefined) throw error;
      output.note(`${error.message}; trying again in ${delayMs / 1000} s`);
      await tools.clock.sleep(delayMs);
    } finally {
      output.progress.end();
    }
  }
}

const CODE_OF_STATUS: Readonly<Record<number, Code>> = {
  400: 'BAD_REQUEST',
  401: 'TOKEN_REFUSED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  409: 'REFUSED_OVERWRITE',
  507: 'NO_SPACE',
};

/** The server's own code and words where it gave them; the exit code follows from the code as for our own refusals. */
function refusalOf(status: number, body: Uint8Array, server: URL): QxError {
  const { code, detail, error, next } = problemIn(body);
  const own = typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as Code) : undefined;
  const byStatus = CODE_OF_STATUS[status] ?? (status >= 500 ? 'SERVER_ERROR' : 'SERVER_REFUSED');
  const said = [detail, error].find((text) => typeof text === 'string') ?? `HTTP status ${status}`;
  const hint = typeof next === 'string' ? { next: printable(next) } : {};
  return new QxError(own ?? byStatus, `${server.host} answered: ${printable(String(said)).slice(0, 2000)}`, hint);
}

function problemIn(body: Uint8Array): { code?: unknown; detail?: unknown; error?: unknown; next?: unknown } {
  try {
    return Object(JSON.parse(new TextDecoder().decode(body)));
  } catch {
    return {};
  }
}
