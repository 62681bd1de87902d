import { readFileSync } from 'node:fs';
import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { networkOf } from '../../core/network.ts';

/** What strangers may take of a program that listens on the network: connections, time and memory. */

export interface ListenLimits {
  /** At once. */
  readonly connections: number;
  /** Of them, from one IPv4 address or one IPv6 network; null where a proxy stands in front, and all come from it. */
  readonly connectionsPerAddress: number | null;
  /** For a whole request to arrive; 0 where images are sent, which takes hours over a slow line. */
  readonly requestTimeoutMs: number;
}

/** A server to which thousands of hosts come. */
export const MANY_HOSTS: ListenLimits = { connections: 8192, connectionsPerAddress: null, requestTimeoutMs: 0 };
/** A host, to which its administrators come. Bodies have at most 64 KiB. */
export const ONE_HOST: ListenLimits = { connections: 512, connectionsPerAddress: 64, requestTimeoutMs: 20_000 };

/** Of one connection, sent before the first was answered. */
const REQUESTS_WAITING = 8;

/** Half of the files that this process may have open: the other half is for its work. */
function affordableConnections(wanted: number): number {
  const files = Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? wanted * 2);
  return Math.min(wanted, Math.floor(files / 2));
}

/** Bounds how many connections are open at once, in all and from one address; the others are closed at once. */
export function boundConnections(server: Server, limits: ListenLimits): void {
  server.maxConnections = affordableConnections(limits.connections);
  const { connectionsPerAddress } = limits;
  if (connectionsPerAddress === null) return;
  const open = new Map<string, number>();
  const accept = server.listeners('connection');
  server.removeAllListeners('connection');
  // In front of TLS: a handshake is what costs the most.
  server.on('connection', (socket: Socket) => {
    const from = networkOf(socket.remoteAddress ?? '');
    const count = (open.get(from) ?? 0) + 1;
    if (count > connectionsPerAddress) return void socket.destroy();
    open.set(from, count);
    socket.on('close', () => {
      const left = (open.get(from) ?? 1) - 1;
      if (left === 0) open.delete(from);
      else open.set(from, left);
    });
    for (const listener of accept) Reflect.apply(listener, server, [socket]);
  });
}

/** Of many requests sent in one piece, the ones that nobody has answered yet are bounded: each costs the work of a whole one. */
export function boundPipeline(handler: RequestListener): RequestListener {
  const waiting = new WeakMap<Socket, number>();
  return (request, response) => {
    const { socket } = request;
    const count = (waiting.get(socket) ?? 0) + 1;
    if (count > REQUESTS_WAITING) return void hangUp(socket);
    waiting.set(socket, count);
    response.on('close', () => waiting.set(socket, (waiting.get(socket) ?? 1) - 1));
    handler(request, response);
  };
}

/**
 * The piece that Node is just parsing it parses to its end, hundreds of requests in it (16 KiB of TLS, 64 KiB of plain TCP), and
 * then the pieces behind it, unless its parser is told to stop.
 */
function hangUp(socket: Socket & { readonly parser?: { pause(): void } | null }): void {
  socket.parser?.pause();
  socket.destroy();
}
