import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { QxError } from '../../errors.ts';
import type { BodyOf, ParamsOf, QueryOf, ResponseOf, Route } from '../../format/route.ts';
import { SERVER_SOCKET } from '../../server/fleet-settings.ts';
import { type Endpoint, readAnswer, send } from '../exchange.ts';
import { refusalOf } from '../refusal.ts';
import { checkToken, isUnprotected, serverAddress } from '../server-address.ts';
import { runs } from '../verb.ts';
import type { FleetProgram, FleetTools } from './tools.ts';

/** The update server as qx-fleet sees it: as root over its Unix socket, or as an operator over the network. */

export interface ServerOptions {
  readonly server?: string;
  readonly tokenFile?: string;
  readonly socket?: string;
  readonly ca?: string;
}

export const withServer = (command: Command): Command =>
  command
    .option('--server <url>', 'update server (default: $QX_SERVER, else the Unix socket of this machine)')
    .option('--token-file <file>', 'file that holds your token (default: $QX_FLEET_TOKEN itself)')
    .option('--ca <file>', 'PEM bundle of the authority that the server has its certificate from')
    .option(
      '--socket <path>',
      `Unix socket of the server on this machine (default: $SERVER_SOCKET, else ${SERVER_SOCKET})`,
    );

export interface FleetServer {
  /** Null for the Unix socket. */
  readonly url: URL | null;
  call<R extends Route>(route: R, asked: Asked<R>): Promise<ResponseOf<R>>;
}

interface Asked<R extends Route> {
  readonly params?: ParamsOf<R>;
  readonly query?: QueryOf<R>;
  readonly body?: BodyOf<R>;
}

/** A verb that asks once: what it asks for, and the answer in words. With --json the answer itself, or `{[name]: answer}`. */
export function asksFor<Options extends ServerOptions, R extends Route>(
  command: Command,
  program: FleetProgram,
  route: R,
  verb: {
    readonly asked?: (options: Options, args: readonly string[]) => Asked<R>;
    readonly named?: string;
    readonly told: (answer: ResponseOf<R>) => string;
    readonly note?: (answer: ResponseOf<R>) => string;
  },
): void {
  runs<Options>(command, program, async (output, options, args) => {
    const server = await fleetServer(program.tools, options);
    const answer = await server.call(route, verb.asked?.(options, args) ?? {});
    output.result(verb.named === undefined ? (answer as object) : { [verb.named]: answer }, verb.told(answer));
    if (!output.isJson && verb.note !== undefined) output.note(verb.note(answer));
  });
}

const TIMEOUT_MS = 30_000;

/** @throws QxError USAGE | TOKEN_REQUIRED | TLS_REQUIRED | NOT_FOUND */
export async function fleetServer({ env }: FleetTools, options: ServerOptions): Promise<FleetServer> {
  const endpoint = await endpointOf(env, options);
  return {
    url: 'url' in endpoint ? endpoint.url : null,
    call: async (route, { params, query, body }) => {
      const where = 'url' in endpoint ? endpoint.url.host : 'the server';
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const named = {
        ...(params && { params: params as Record<string, string> }),
        ...(query && { query: query as Record<string, string> }),
      };
      const sent = { ...named, body, signal };
      const answered = send(endpoint, route, sent).then(async (response) => ({
        status: response.statusCode ?? 0,
        bytes: await readAnswer(response),
      }));
      const { status, bytes } = await answered.catch((error: unknown) => {
        throw asUnreachable(error, endpoint);
      });
      if (status < 200 || status > 299) throw refusalOf(status, bytes, where);
      return JSON.parse(bytes.toString());
    },
  };
}

async function endpointOf(env: FleetTools['env'], options: ServerOptions): Promise<Endpoint> {
  if (options.server !== undefined && options.socket !== undefined) {
    throw new QxError('USAGE', '--server and --socket name two servers: give one of them');
  }
  const address = options.server ?? (options.socket === undefined ? env.QX_SERVER : undefined);
  if (address === undefined || address === '')
    return { socket: options.socket ?? (env.SERVER_SOCKET || SERVER_SOCKET) };
  const url = serverAddress(address);
  if (isUnprotected(url)) {
    throw new QxError('TLS_REQUIRED', `over plain HTTP to ${url.hostname}, whoever listens could use your token`, {
      next: 'give the server an https address; plain http is only for this machine itself',
    });
  }
  const token = options.tokenFile === undefined ? env.QX_FLEET_TOKEN : await textOf(options.tokenFile);
  if (token === undefined || token === '') {
    throw new QxError('TOKEN_REQUIRED', `${url.host} needs to know who you are`, {
      next: 'QX_FLEET_TOKEN=..., or --token-file FILE; as root on the server itself, --socket PATH needs none',
    });
  }
  checkToken(token);
  return { url, token, ...(options.ca === undefined ? {} : { ca: await textOf(options.ca) }) };
}

const MAX_FILE_BYTES = 1 << 20;

async function textOf(file: string): Promise<string> {
  const bytes = await readFile(file).catch((error: unknown) => {
    throw new QxError('NOT_FOUND', `${file} cannot be read: ${(error as Error).message}`, { cause: error });
  });
  if (bytes.length > MAX_FILE_BYTES) throw new QxError('USAGE', `${file} is too large to be what it should be`);
  return bytes.toString().trim();
}

const ABSENT = ['ENOENT', 'ENOTDIR', 'ECONNREFUSED'];

function asUnreachable(error: unknown, endpoint: Endpoint): unknown {
  if (error instanceof QxError) return error;
  const { code = '', message, errors = [] } = error as NodeJS.ErrnoException & { errors?: readonly Error[] };
  if ((error as Error).name === 'TimeoutError' || code === 'ABORT_ERR') {
    const where = 'socket' in endpoint ? endpoint.socket : endpoint.url.origin;
    return new QxError('SERVER_UNREACHABLE', `${where} did not answer in ${TIMEOUT_MS / 1000} s`, {
      next: 'look at the log of the server; what was asked for may have happened all the same',
      cause: error,
    });
  }
  if ('socket' in endpoint) return unreachableSocket(error, code, endpoint.socket);
  const isUntrusted = /CERT|SIGNED|VERIFY|SSL|TLS/.test(code);
  const why = [message, ...errors.map((one) => one.message)].filter((text) => text !== '').join('; ');
  return new QxError('SERVER_UNREACHABLE', `${endpoint.url.origin} cannot be reached: ${why || code}`, {
    ...(isUntrusted ? { next: '--ca FILE names an authority of your own' } : {}),
    cause: error,
  });
}

function unreachableSocket(error: unknown, code: string, socket: string): QxError {
  const next =
    'on the machine of the server, --socket PATH names another one (see SERVER_SOCKET); else give --server URL and a token';
  if (code === 'EACCES' || code === 'EPERM') {
    return new QxError('FORBIDDEN', `only root may use ${socket}`, { next: 'run it as root', cause: error });
  }
  const why = ABSENT.includes(code) ? 'no server listens there' : (error as Error).message;
  return new QxError('SERVER_UNREACHABLE', `${socket}: ${why}`, { next, cause: error });
}
