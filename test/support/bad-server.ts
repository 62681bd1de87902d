import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/**
 * Update servers that break, lie, stall and never end, over real sockets. Each answer is a function, so that a test reads as
 * the story of its server: `badServer(cutAfter(bytes, 1000), serve(bytes))` cuts the first connection and serves the rest.
 */

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface BadServer {
  readonly url: string;
  readonly requests: readonly IncomingMessage[];
  /** Bytes that were handed to the sockets so far. */
  sentBytes(): number;
  /** Connections that are still open. */
  openSockets(): number;
  stop(): Promise<void>;
}

/** Answers the first request with the first answer, and so on; the last one stays. */
export async function badServer(...answers: readonly [Answer, ...Answer[]]): Promise<BadServer> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    const answer = answers[Math.min(requests.length, answers.length - 1)];
    requests.push(request);
    response.on('error', () => undefined);
    answer?.(request, response);
  });
  return { requests, ...(await started(server)) };
}

/** Below HTTP: whatever is said on the socket, once somebody asked. */
export async function rawServer(speak: (socket: Socket) => void): Promise<Omit<BadServer, 'requests'>> {
  return started(createTcpServer((socket) => void socket.once('data', () => speak(socket))));
}

async function started(server: Server) {
  const sockets = new Set<Socket>();
  let finishedBytes = 0;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      sockets.delete(socket);
      finishedBytes += socket.bytesWritten;
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = async () => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(stop);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sentBytes: () => [...sockets].reduce((sum, socket) => sum + socket.bytesWritten, finishedBytes),
    openSockets: () => sockets.size,
    stop,
  };
}

/** Where the caller wants to go on; null when it asked for the whole file. */
export const rangeStart = (request: IncomingMessage | undefined): number | null => {
  const match = /^bytes=([0-9]+)-$/.exec(request?.headers.range ?? '');
  return match === null ? null : Number(match[1]);
};

/** What a good server does: ETag, If-None-Match, Range, If-Range. */
export const serve =
  (bytes: Uint8Array, etag = '"one"'): Answer =>
  (request, response) => {
    response.setHeader('etag', etag);
    if (request.headers['if-none-match'] === etag) return void response.writeHead(304).end();
    const start = rangeStart(request);
    const isSame = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
    if (start === null || !isSame) {
      return void response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    }
    if (start >= bytes.length)
      return void response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
    const headers = {
      'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}`,
      'content-length': bytes.length - start,
    };
    response.writeHead(206, headers).end(bytes.subarray(start));
  };

/** Never heard of ranges. */
export const serveWhole =
  (bytes: Uint8Array): Answer =>
  (_request, response) =>
    void response.writeHead(200, { 'content-length': bytes.length }).end(bytes);

/** As `serve`, but each answer ends with a cut connection after so many bytes of it. */
export const cutAfter =
  (bytes: Uint8Array, sentBytes: number, etag = '"one"'): Answer =>
  (request, response) => {
    const start = rangeStart(request) ?? 0;
    const isRange = start > 0;
    response.writeHead(isRange ? 206 : 200, {
      etag,
      'content-length': bytes.length - start,
      ...(isRange ? { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    response.write(bytes.subarray(start, start + sentBytes), () => void setTimeout(() => response.destroy(), 20));
  };

export const status =
  (code: number, headers: Readonly<Record<string, string>> = {}, body = ''): Answer =>
  (_request, response) =>
    void response.writeHead(code, headers).end(body);

/** An answer without end, as fast as the socket takes it, under the given headers. */
export const endless =
  (code = 200, headers: Readonly<Record<string, string | number>> = {}): Answer =>
  (_request, response) => {
    const chunk = new Uint8Array(64 << 10).fill(0x20);
    response.writeHead(code, headers);
    const pump = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on('drain', pump);
    pump();
  };

/** So many bytes at once, then one byte each `everyMs`. */
export const drip =
  (bytes: Uint8Array, atOnceBytes: number, everyMs: number): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-length': bytes.length, etag: '"one"' });
    response.write(bytes.subarray(0, atOnceBytes));
    let at = atOnceBytes;
    const timer = setInterval(() => response.write(bytes.subarray(at, ++at)), everyMs);
    response.on('close', () => clearInterval(timer));
  };

/** Takes the request and says nothing. */
export const silence: Answer = () => undefined;
