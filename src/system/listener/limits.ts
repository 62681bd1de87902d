import { readFileSync } from 'node:fs';
import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { networkOf } from '../../core/network.ts';

/** What strangers may take of a program that listens on the network: connections, time and memory. */

export interface ListenLimits {
  /** At once. */
  readonly connections: number;
  /** Of them, from one IPv4 address or one IPv6 network; null where a proxy stands in front, and all come from it. */
  readonly connectionsPerAddress: number | null;
  /** For a whole request to arrive; 0 where images are sent, which takes hours over a slow line. */
  readonly requestTimeoutMs: number;
  /** For a TLS handshake, all of it; 10 s unless said. */
  readonly handshakeTimeoutMs?: number;
}

const HANDSHAKE_TIMEOUT_MS = 10_000;

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
    socket.once('close', () => {
      const left = (open.get(from) ?? 1) - 1;
      if (left === 0) open.delete(from);
      else open.set(from, left);
    });
    for (const listener of accept) Reflect.apply(listener, server, [socket]);
  });
}

/**
 * Of many requests sent in one piece, the ones that nobody has answered yet are bounded, and one after the other is begun: the next
 * once the answer before it has left this process. So a peer that asks and does not read costs the memory of one answer.
 */
export function boundPipeline(handler: RequestListener): RequestListener {
  const waiting = new WeakMap<Socket, (() => void)[]>();
  return (request, response) => {
    const { socket } = request;
    const queue = waiting.get(socket) ?? [];
    waiting.set(socket, queue);
    if (queue.length >= REQUESTS_WAITING) return void hangUp(socket);
    queue.push(() => handler(request, response));
    response.on('close', () => {
      queue.shift();
      if (!socket.destroyed) queue[0]?.();
    });
    if (queue.length === 1) queue[0]?.();
  };
}

export interface Connections {
  /** Watches the connections of this server, which is not listening yet. */
  of(server: Server): Server;
  /** Ends those on which no handshake has come about: nobody there waits for an answer. */
  cutShaking(): void;
  /** Ends them all, handshakes that are under way included: Node's own list begins where they have ended. */
  cut(): void;
}

/** A handshake has so long in all: Node's own limit begins again with each byte, and one every few seconds would hold a connection for good. */
export function connectionsThere(handshakeTimeoutMs = HANDSHAKE_TIMEOUT_MS): Connections {
  const [open, shaken] = [new Set<Socket>(), new Set<string>()];
  // The TLS socket and the raw one beneath it have nothing else in common that is public.
  const peer = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
  const cut = (which: (socket: Socket) => boolean): void => {
    for (const socket of [...open].filter(which)) end(socket);
  };
  return {
    of: (server) =>
      server
        .on('connection', (socket: Socket) => {
          const name = peer(socket);
          open.add(socket);
          const late = setTimeout(() => {
            if (isBeneathTls(socket) && !shaken.has(name)) end(socket);
          }, handshakeTimeoutMs).unref();
          socket.once('close', () => {
            clearTimeout(late);
            open.delete(socket);
            shaken.delete(name);
          });
        })
        .on('secureConnection', (socket: Socket) => void shaken.add(peer(socket))),
    cutShaking: () => cut((socket) => isBeneathTls(socket) && !shaken.has(peer(socket))),
    cut: () => cut(() => true),
  };
}

/**
 * A TLS socket that still shakes hands is nowhere to be had, but it ends when its raw connection says that it has closed. The raw
 * one destroyed beneath it would end this process: Node 26 then reads freed memory.
 */
function end(socket: Socket): void {
  if (isBeneathTls(socket)) socket.emit('close');
  else socket.destroy();
}

const isBeneathTls = (socket: Socket & { readonly server?: unknown }): boolean => socket.server instanceof TlsServer;

/**
 * The piece that Node is just parsing it parses to its end, hundreds of requests in it (16 KiB of TLS, 64 KiB of plain TCP), and
 * then the pieces behind it, unless its parser is told to stop.
 */
function hangUp(socket: Socket & { readonly parser?: { pause(): void } | null }): void {
  socket.parser?.pause();
  socket.destroy();
}
