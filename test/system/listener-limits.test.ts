import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { Type } from 'typebox';
import { expect, onTestFinished, test } from 'vitest';
import type { RouteTable } from '../../src/format/route.ts';
import { boundPipeline, type ListenLimits } from '../../src/system/listener/limits.ts';
import { listenTcp } from '../../src/system/listener.ts';
import { recordedLog } from '../support/fakes.ts';

const ROUTES = {
  hello: { method: 'GET', path: '/hello', who: 'open', summary: '', content: 'json', response: Type.Unknown() },
} as const satisfies RouteTable;

async function listening(limits: ListenLimits): Promise<number> {
  const identity = { title: 'test', version: '1.0.0', documentFor: 'open', log: recordedLog() } as const;
  const service = {
    ...identity,
    routes: ROUTES,
    handlers: { hello: async () => ({ json: 'hello' }) },
    admit: () => null,
  };
  const { port, close } = await listenTcp(service, { host: '127.0.0.1', port: 0, limits });
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
  expect(counts).toEqual({ begun: 8, answered });
});
