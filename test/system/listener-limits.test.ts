import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { Type } from 'typebox';
import { expect, onTestFinished, test } from 'vitest';
import type { RouteTable } from '../../src/format/route.ts';
import { boundPipeline, type ListenLimits } from '../../src/system/listener/limits.ts';
import { listenTcp, listenUnix } from '../../src/system/listener.ts';
import { authority } from '../support/certificates.ts';
import { recordedLog } from '../support/fakes.ts';
import { temporaryFolder } from '../support/temp.ts';

const ROUTES = {
  hello: { method: 'GET', path: '/hello', who: 'open', summary: '', content: 'json', response: Type.Unknown() },
} as const satisfies RouteTable;

const service = (hello: () => Promise<unknown> = async () => 'hello') => ({
  ...({ title: 'test', version: '1.0.0', documentFor: 'open', log: recordedLog() } as const),
  routes: ROUTES,
  handlers: { hello: async () => ({ json: await hello() }) },
  admit: () => null,
});

async function listening(limits: ListenLimits): Promise<number> {
  const { port, close } = await listenTcp(service(), { host: '127.0.0.1', port: 0, limits });
  onTestFinished(() => close(0));
  return port;
}

/** Says hello from an address and keeps the connection; the status, or `closed`. */
async function hello(port: number, localAddress: string): Promise<{ readonly said: string; readonly socket: Socket }> {
  const socket = connect({ host: '127.0.0.1', port, localAddress });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  socket.write('GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const said = await Promise.race([
    once(socket, 'data').then(([data]: Buffer[]) => String(data).split(' ')[1] ?? ''),
    once(socket, 'close').then(() => 'closed'),
  ]);
  return { said, socket };
}

test('an address has its share of the connections, and gets it back when one is closed', async () => {
  const port = await listening({ connections: 10, connectionsPerAddress: 2, requestTimeoutMs: 0 });
  const first = await hello(port, '127.0.0.1');
  const rest = [await hello(port, '127.0.0.1'), await hello(port, '127.0.0.1'), await hello(port, '127.0.0.2')];
  expect([first, ...rest].map(({ said }) => said)).toEqual(['200', '200', 'closed', '200']);
  first.socket.destroy();
  await expect.poll(async () => (await hello(port, '127.0.0.1')).said).toBe('200');
});

test('all together have no more than the connections there are; without shares one may have them all', async () => {
  const port = await listening({ connections: 2, connectionsPerAddress: null, requestTimeoutMs: 0 });
  const all = [await hello(port, '127.0.0.1'), await hello(port, '127.0.0.1'), await hello(port, '127.0.0.2')];
  expect(all.map(({ said }) => said)).toEqual(['200', '200', 'closed']);
});

test('connections never take more than half of the files that a process may have open', async () => {
  const module = join(import.meta.dirname, '../../src/system/listener/limits.ts');
  const code = `
    const { boundConnections } = await import('${module}');
    const most = async (connections) => {
      const server = new (await import('node:http')).Server();
      boundConnections(server, { connections, connectionsPerAddress: null, requestTimeoutMs: 0 });
      return server.maxConnections;
    };
    console.log(await most(512), await most(100));`;
  const { stdout } = await execa('sh', ['-c', 'ulimit -n 1000; exec "$0" -e "$1"', process.execPath, code]);
  expect(stdout).toBe('500 100');
});

test.each([
  [8, 8],
  // The one that is too many ends the connection, before any of them was answered.
  [9, 0],
  [2000, 0],
])('of %i requests in one piece %i are answered', async (sent, answered) => {
  const counts = { begun: 0, answered: 0 };
  const handler = boundPipeline((_request, response) => {
    counts.begun++;
    setTimeout(() => response.end('hello'), 50);
  });
  const server = createServer(handler);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void server.close());
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.on('data', (data) => {
    counts.answered += String(data).split('HTTP/1.1 200').length - 1;
    if (counts.answered === sent) socket.end();
  });
  socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(sent));
  await new Promise((resolve) => socket.once('close', resolve));
  // The next one is begun when the answer before it is out.
  expect(counts).toEqual({ begun: Math.max(1, answered), answered });
});

const pem = ({ cert, key }: { cert: string; key: string }) => ({ cert: Buffer.from(cert), key: Buffer.from(key) });
/** The beginning of a TLS record, and no more. */
const HALF_A_HELLO = Buffer.from([0x16, 0x03, 0x01]);

/** Also by a reset. */
const closed = (socket: Socket): Promise<unknown> => new Promise((resolve) => socket.once('close', resolve));

async function silent(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  socket.resume();
  await once(socket, 'connect');
  socket.write(HALF_A_HELLO);
  return socket;
}

test('a connection on which no handshake comes about ends, and its place is free again', async () => {
  const tls = pem(await (await authority('a')).issue('127.0.0.1'));
  const limits = { connections: 10, connectionsPerAddress: 2, requestTimeoutMs: 0, handshakeTimeoutMs: 100 };
  const { port, close } = await listenTcp(service(), { host: '127.0.0.1', port: 0, tls, limits });
  onTestFinished(() => close(0));
  const first = [await silent(port), await silent(port)];
  await Promise.all(first.map((socket) => closed(socket)));
  const second = await silent(port);
  // The third at once would have been closed at once.
  await closed(second);
  expect(second.bytesRead).toBe(0);
});

test('a handshake that comes a byte at a time has no longer', async () => {
  const tls = pem(await (await authority('a')).issue('127.0.0.1'));
  const limits = { connections: 10, connectionsPerAddress: null, requestTimeoutMs: 0, handshakeTimeoutMs: 300 };
  const { port, close } = await listenTcp(service(), { host: '127.0.0.1', port: 0, tls, limits });
  onTestFinished(() => close(0));
  const socket = await silent(port);
  // A record that is longer than what will ever come of it.
  const drip = setInterval(() => socket.write(Buffer.from([0x01])), 20);
  await closed(socket);
  clearInterval(drip);
});

test('closing ends whoever is connected, also who never said anything', async () => {
  const tls = pem(await (await authority('a')).issue('127.0.0.1'));
  const limits = { connections: 10, connectionsPerAddress: null, requestTimeoutMs: 0, handshakeTimeoutMs: 3_600_000 };
  const tcp = await listenTcp(service(), { host: '127.0.0.1', port: 0, tls, limits });
  const silents = [await silent(tcp.port), await silent(tcp.port)];
  await Promise.all([tcp.close(0), ...silents.map((socket) => closed(socket))]);
  const path = join(await temporaryFolder(), 's');
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const unix = await listenUnix(
    service(() => {
      begin();
      return new Promise(() => undefined);
    }),
    path,
  );
  const socket = connect(path);
  socket.on('error', () => undefined);
  socket.write('GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await begun;
  await Promise.all([unix.close(0), closed(socket)]);
});

test('who asks again and again and reads nothing is answered no further than the answers have gone', async () => {
  const counts = { begun: 0 };
  const answer = 'x'.repeat(4 << 20);
  const { port, close } = await listenTcp(
    service(async () => {
      counts.begun++;
      return answer;
    }),
    { host: '127.0.0.1', port: 0, limits: { connections: 10, connectionsPerAddress: null, requestTimeoutMs: 0 } },
  );
  onTestFinished(() => close(0));
  const socket = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void socket.destroy());
  socket.pause();
  socket.write('GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(8));
  // Another one is answered meanwhile: what waits for the first reader is all that there is.
  for (let i = 0; i < 5; i++) expect((await hello(port, '127.0.0.1')).said).toBe('200');
  expect(counts.begun).toBe(6);
});
