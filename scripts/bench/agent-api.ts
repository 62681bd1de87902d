import { join } from 'node:path';
import { Client } from 'undici';
import type { BenchHost } from './host.ts';

export interface AgentApi extends AsyncDisposable {
  get(path: string): Promise<Record<string, unknown>>;
}

/** The agent's own interface, on its Unix socket. */
export function agentApi({ root }: BenchHost): AgentApi {
  const client = new Client('http://localhost', { socketPath: join(root, 'run/quantix/node.sock') });
  return {
    get: async (path) => {
      const { statusCode, body } = await client.request({ path, method: 'GET' });
      if (statusCode !== 200) throw new Error(`${path} answered ${statusCode}: ${await body.text()}`);
      return (await body.json()) as Record<string, unknown>;
    },
    [Symbol.asyncDispose]: () => client.close(),
  };
}
