import { randomBytes } from 'node:crypto';
import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import type { FastifyInstance, FastifyServerFactory } from 'fastify';
import { QxError } from '../errors.ts';
import type { RouteTable } from '../format/route.ts';
import type { Listening, Service } from '../ports/serving.ts';
import { createApp } from './listener/app.ts';

export interface TcpEndpoint {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** PEM. */
  readonly tls?: { readonly cert: Uint8Array; readonly key: Uint8Array };
}

const HEADERS_TIMEOUT_MS = 20_000;
/** Longest silence within a request; its whole length is not limited, since an image over a slow line takes hours. */
const IDLE_TIMEOUT_MS = 120_000;
const GRACE_MS = 10_000;
/** Of a header that must not be repeated, such as Host, Node would believe the first one; joined, it is no value at all. */
const JOINED = { joinDuplicateHeaders: true } as const;

/** Serves a route table on a TCP port, with TLS when there is a certificate. @throws QxError CONFIG_INVALID */
export async function listenTcp<T extends RouteTable>(
  service: Service<T>,
  { host, port, tls }: TcpEndpoint,
): Promise<Listening> {
  const app = createApp(service, 'tcp', (handler) =>
    bounded(tls ? tlsServer(tls, handler) : createServer(JOINED, handler), handler),
  );
  await start(app, { host, port });
  return listening(app, (app.server.address() as AddressInfo).port);
}

/** Serves a route table on a Unix socket that only its owner can open. */
export async function listenUnix<T extends RouteTable>(service: Service<T>, path: string): Promise<Listening> {
  const app = createApp(service, 'unix', (handler) => bounded(createServer(JOINED, handler), handler));
  // Bound inside a folder that nobody else can enter, then moved: there is no moment at which others could connect, and a
  // socket that a dead process left is replaced.
  const shelter = join(dirname(path), `.${randomBytes(4).toString('hex')}`);
  await mkdir(shelter, { mode: 0o700, recursive: true });
  try {
    const bound = join(shelter, 's');
    await start(app, { path: bound });
    await chmod(bound, 0o600);
    await rename(bound, path);
  } finally {
    await rm(shelter, { recursive: true, force: true });
  }
  const { port, close } = listening(app, 0);
  return { port, close: (graceMs) => close(graceMs).finally(() => rm(path, { force: true })) };
}

type Requests = Parameters<FastifyServerFactory>[0];

function tlsServer(tls: NonNullable<TcpEndpoint['tls']>, handler: Requests): Server {
  try {
    const pem = { cert: Buffer.from(tls.cert), key: Buffer.from(tls.key) };
    return createTlsServer({ ...JOINED, ...pem, minVersion: 'TLSv1.2' }, handler);
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `certificate or key cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function bounded(server: Server, handler: Requests): Server {
  // Without this listener Node itself says "100 Continue", to everybody, before anybody has looked at the token.
  server.on('checkContinue', handler);
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = 0;
  server.timeout = IDLE_TIMEOUT_MS;
  return server;
}

async function start(app: FastifyInstance, where: { host: string; port: number } | { path: string }): Promise<void> {
  try {
    await app.listen(where);
  } catch (error) {
    await app.close();
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || !/^E[A-Z]+$/.test(code)) throw error;
    throw new QxError('CONFIG_INVALID', `cannot listen: ${(error as Error).message}`, { cause: error });
  }
}

function listening(app: FastifyInstance, port: number): Listening {
  return {
    port,
    async close(graceMs = GRACE_MS) {
      const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
      await app.close();
      clearTimeout(cut);
    },
  };
}
