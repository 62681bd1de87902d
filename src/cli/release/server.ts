import type { Command } from 'commander';
import { ERRORS, QxError } from '../../errors.ts';
import { DOCUMENT_LIMITS } from '../../format/json.ts';
import type { Channel, Product } from '../../format/manifest.ts';
import { pathOf } from '../../format/route.ts';
import { SERVER_ROUTES } from '../../format/routes.ts';
import type { UploadLimits, UploadPart } from '../../ports/upload.ts';
import type { HttpLimits } from '../../ports.ts';
import { refusalOf } from '../refusal.ts';
import { checkToken, isUnprotected, serverAddress } from '../server-address.ts';
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
  return serverAddress(text);
}

const addressOf = (server: URL, path: string): string => server.href.replace(/\/+$/, '') + path;

/** The token is never printed, and never goes where the command line did not send it. */
export async function publishToken(tools: ReleaseTools, output: Output, options: ServerOptions): Promise<string> {
  const token =
    options.token ?? (await tokenIn(tools, options.tokenFile)) ?? (tools.env.QX_TOKEN || tools.env.PUBLISH_TOKEN);
  if (token === undefined || token === '') {
    const next = 'QX_TOKEN=..., or --token-file FILE; a server that runs with --dev takes any';
    throw new QxError('TOKEN_REQUIRED', 'publishing needs a token', { next });
  }
  checkToken(token);
  const server = serverUrl(tools, options);
  if (isUnprotected(server)) {
    output.note(
      `warning: the token goes to ${server.hostname} unencrypted, where whoever listens can use it; publish over https`,
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
  if (status !== 200) throw refusalOf(status, bytes, server.host);
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
      if (status !== 200 && status !== 201) throw refusalOf(status, body, target.server.host);
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
