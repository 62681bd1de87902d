import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { expect, onTestFinished, test } from 'vitest';
import { listenPatiently } from '../../src/cli/listen.ts';
import type { RouteTable } from '../../src/format/route.ts';
import { listenTcp } from '../../src/system/listener.ts';
import { hostFolder, qxUpdate, startAgent } from '../support/agent.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { curl } from '../support/update-server.ts';

const ROUTES = {
  hello: { method: 'GET', path: '/hello', who: 'open', summary: '', content: 'json', response: Type.Unknown() },
} as const satisfies RouteTable;

async function takenPort(): Promise<{ readonly port: number; readonly holder: Server }> {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  onTestFinished(() => void holder.close());
  return { port: (holder.address() as AddressInfo).port, holder };
}

/** Half a minute passes at once, but not without letting others work. */
function quickClock() {
  const clock = fakeClock();
  return { ...clock, sleep: (ms: number, signal?: AbortSignal) => clock.sleep(ms, signal).then(() => sleep(1)) };
}

function listenOn(port: number) {
  const [log, clock] = [recordedLog(), quickClock()];
  const handlers = { hello: async () => ({ json: 'hello' }) };
  const service = {
    title: 'test',
    version: '1.0.0',
    routes: ROUTES,
    handlers,
    admit: () => null,
    documentFor: 'open' as const,
    log,
  };
  const opened = listenPatiently(() => listenTcp(service, { host: '127.0.0.1', port }), { clock, log });
  return { opened, log, clock };
}

test('a port that is taken is tried every 30 s, and served once it is free', async () => {
  const { port, holder } = await takenPort();
  const { opened, log, clock } = listenOn(port);
  const tcp = await opened;
  expect(tcp.port).toBeNull();
  await expect.poll(() => clock.slept).toEqual(expect.arrayContaining([30_000, 30_000]));
  expect(log.lines).toContainEqual(expect.objectContaining({ level: 'warn', event: 'listen_failed' }));
  holder.close();
  await expect.poll(() => log.lines.at(-1)).toMatchObject({ event: 'listening', fields: { port } });
  expect((await curl(`http://127.0.0.1:${port}/hello`)).text).toBe('"hello"');
  await tcp.close(0);
  await once(
    createServer().listen(port, '127.0.0.1', function (this: Server) {
      this.close();
    }),
    'close',
  );
});

test('closed while it waits, it never listens', async () => {
  const { port, holder } = await takenPort();
  const { opened, log } = listenOn(port);
  await (await opened).close(0);
  holder.close();
  await once(holder, 'close');
  await sleep(20);
  expect(log.lines.filter(({ event }) => event === 'listening')).toEqual([]);
});

test('an agent whose port is taken runs on, is reached by its socket, and stops when told to', async () => {
  const { port } = await takenPort();
  const host = await hostFolder();
  await host.write('etc/limiquantix/node.d/10-port.yaml', `updates:\n  listen: 127.0.0.1:${port}\n`);
  const agent = await startAgent(host.path);
  expect(agent.output()).toContain('"msg":"listen_failed"');
  expect((await qxUpdate(host.path, 'status')).exitCode).toBe(0);
  agent.kill('SIGTERM');
  expect(await agent.ended).toEqual({ exitCode: 0 });
});
