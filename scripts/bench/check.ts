import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { agentApi } from './agent-api.ts';
import { startHost } from './host.ts';
import { MB, type Row } from './row.ts';

export const checkRow: Row = {
  name: 'check',
  title: 'a check with nothing new: one request, answered 304, bytes both ways',
  unit: 'bytes',
  goal: 2000,
  measure: async ({ folder, yard: open }) => {
    const yard = await open();
    await yard.publish('6.0.0', { sizeBytes: 3 * MB, filledWith: 'noise' });
    await using wire = await countingProxy(new URL(yard.url));
    await using host = await startHost({
      root: join(folder, 'host'),
      serverUrl: wire.url,
      keyring: yard.keyring,
      slotB: '/dev/null',
      settings: ['auto_check: false'],
    });
    await using api = agentApi(host);
    const first = await wire.during(() => api.get('/api/v1/updates/check'));
    const second = await wire.during(() => api.get('/api/v1/updates/check'));
    if (second.answers.join() !== '304' || second.requests !== 1) {
      throw new Error(`a check with nothing new took ${second.requests} requests, answered ${second.answers.join()}`);
    }
    return {
      value: second.bytes,
      detail: { requests: second.requests, answer: '304', 'bytes of the first check': first.bytes },
    };
  },
};

interface Wire extends AsyncDisposable {
  readonly url: string;
  during(act: () => Promise<unknown>): Promise<{ bytes: number; requests: number; answers: readonly string[] }>;
}

/** Passes on what host and server say to each other, and counts it. */
async function countingProxy(server: URL): Promise<Wire> {
  const heard: Record<'up' | 'down', Buffer[]> = { up: [], down: [] };
  const sockets: Socket[] = [];
  const proxy = createServer((client) => {
    const upstream = connect(Number(server.port), server.hostname);
    sockets.push(client, upstream);
    client.on('data', (bytes: Buffer) => heard.up.push(bytes)).pipe(upstream);
    upstream.on('data', (bytes: Buffer) => heard.down.push(bytes)).pipe(client);
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    during: async (act) => {
      Object.assign(heard, { up: [], down: [] });
      await act();
      const [up, down] = [Buffer.concat(heard.up), Buffer.concat(heard.down)];
      return {
        bytes: up.length + down.length,
        requests: [...up.toString('latin1').matchAll(/^GET \/\S* HTTP\/1\.1\r$/gm)].length,
        answers: [...down.toString('latin1').matchAll(/^HTTP\/1\.1 (\d+) /gm)].map(([, status]) => status ?? ''),
      };
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
