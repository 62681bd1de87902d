import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';

/** A FleetLock server of somebody else's, by the protocol alone. */

interface Asked {
  readonly path: string;
  readonly id: string;
  readonly group: string;
  readonly headers: IncomingMessage['headers'];
}

/** As airlock answers: one lock for each group, with the protocol's own header demanded. */
export async function lockServer(answer?: () => { status: number; body: string }) {
  const asked: Asked[] = [];
  const holders = new Map<string, string>();
  const server = createServer(async (request, response) => {
    const { client_params } = JSON.parse(await text(request)) as { client_params: { id: string; group: string } };
    const { id, group } = client_params;
    asked.push({ path: request.url ?? '', id, group, headers: request.headers });
    const given = answer?.();
    if (given !== undefined) return void response.writeHead(given.status).end(given.body);
    if (request.headers['fleet-lock-protocol'] !== 'true') return void response.writeHead(400).end();
    const holder = holders.get(group);
    if (request.url === '/v1/steady-state') {
      if (holder === id) holders.delete(group);
      return void response.writeHead(200).end();
    }
    if (holder === undefined || holder === id) holders.set(group, id);
    const isHis = holders.get(group) === id;
    const refusal = JSON.stringify({ kind: 'failed_lock', value: 'semaphore currently full' });
    response.writeHead(isHis ? 200 : 409).end(isHis ? '' : refusal);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  };
  onTestFinished(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked, holders, close };
}
