import { constants, randomBytes } from 'node:crypto';
import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { Server as TlsServer } from 'node:tls';
import type { FastifyInstance, FastifyServerFactory } from 'fastify';
import { QxError } from '../errors.ts';
import type { RouteTable } from '../format/route.ts';
import type { Listening, Service } from '../ports/serving.ts';
import { createApp } from './listener/app.ts';
import {
  boundConnections,
  boundPipeline,
  type Connections,
  connectionsThere,
  type ListenLimits,
  MANY_HOSTS,
} from './listener/limits.ts';

export interface TcpEndpoint {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** PEM. With `clientCa` callers are asked for a certificate of these authorities; who has none is served all the same. */
  readonly tls?: {
    readonly cert: Uint8Array;
    readonly key: Uint8Array;
    readonly clientCa?: Uint8Array;
    /** Callers are asked for a certificate although there is no `clientCa` yet: it may come by `renew`. */
    readonly asksClients?: boolean;
  };
  /** Those of a server for many hosts unless said. */
  readonly limits?: ListenLimits;
}

const HEADERS_TIMEOUT_MS = 20_000;
const KEEP_ALIVE_MS = 15_000;
/** How often Node looks for requests that are late. */
const LOOK_EVERY_MS = 2000;
const MAX_HEADER_BYTES = 16 << 10;
/** Longest silence within a request; its whole length is not limited, since an image over a slow line takes hours. */
const IDLE_TIMEOUT_MS = 120_000;
const GRACE_MS = 10_000;
const HTTP = {
  // Of a header that must not be repeated, such as Host, Node would believe the first one; joined, it is no value at all.
  joinDuplicateHeaders: true,
  insecureHTTPParser: false,
  maxHeaderSize: MAX_HEADER_BYTES,
  connectionsCheckingInterval: LOOK_EVERY_MS,
} as const;

/** Serves a route table on a TCP port, with TLS when there is a certificate. @throws QxError CONFIG_INVALID */
export async function listenTcp<T extends RouteTable>(
  service: Service<T>,
  { host, port, tls, limits = MANY_HOSTS }: TcpEndpoint,
): Promise<Listening> {
  const connections = connectionsThere(limits.handshakeTimeoutMs);
  const app = createApp(service, 'tcp', (handler) => {
    const requests = boundPipeline(handler);
    const server = timed(tls ? tlsServer(tls, requests) : createServer(HTTP, requests), requests);
    server.requestTimeout = limits.requestTimeoutMs;
    boundConnections(server, limits);
    return connections.of(server);
  });
  await start(app, { host, port });
  return listening(app, (app.server.address() as AddressInfo).port, connections);
}

/** Serves a route table on a Unix socket that only its owner can open. */
export async function listenUnix<T extends RouteTable>(service: Service<T>, path: string): Promise<Listening> {
  const connections = connectionsThere();
  const app = createApp(service, 'unix', (handler) => {
    const requests = boundPipeline(handler);
    return connections.of(timed(createServer(HTTP, requests), requests));
  });
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
  const { port, close, renew } = listening(app, 0, connections);
  return { port, renew, close: (graceMs) => close(graceMs).finally(() => rm(path, { force: true })) };
}

type Requests = Parameters<FastifyServerFactory>[0];

const TLS = {
  minVersion: 'TLSv1.2',
  // Of TLS 1.2 what encrypts and authenticates at once; the other suites pad, and have leaked by it again and again.
  ciphers: [
    ...['TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256'],
    ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
    ...['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
    ...['ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'],
  ].join(':'),
  // What a caller has proved belongs to one connection: no session is resumed without the handshake that proves it, and no
  // handshake begins anew in the middle of a connection.
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
} as const;

function tlsServer(tls: NonNullable<TcpEndpoint['tls']>, handler: Requests): Server {
  const clients = (tls.clientCa || tls.asksClients) && { requestCert: true, rejectUnauthorized: false };
  return usable(() => createTlsServer({ ...HTTP, ...secureContext(tls), ...clients }, handler));
}

const secureContext = ({ cert, key, clientCa }: NonNullable<TcpEndpoint['tls']>) => ({
  ...TLS,
  cert: Buffer.from(cert),
  key: Buffer.from(key),
  ...(clientCa && { ca: Buffer.from(clientCa) }),
});

function usable<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new QxError('CONFIG_INVALID', `certificate or key cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function timed(server: Server, handler: Requests): Server {
  // Without this listener Node itself says "100 Continue", to everybody, before anybody has looked at the token.
  server.on('checkContinue', handler);
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = 0;
  server.timeout = IDLE_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
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

function listening(app: FastifyInstance, port: number, connections: Connections): Listening {
  return {
    port,
    async close(graceMs = GRACE_MS) {
      connections.cutShaking();
      const cut = setTimeout(() => connections.cut(), graceMs);
      await app.close();
      clearTimeout(cut);
    },
    renew(tls) {
      const server: unknown = app.server;
      if (server instanceof TlsServer) usable(() => server.setSecureContext(secureContext(tls)));
    },
  };
}
