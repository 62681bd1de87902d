import { request } from 'node:http';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { agentHandlers } from '../../src/agent/api.ts';
import { auditRefusals } from '../../src/agent/audit-access.ts';
import { AGENT_ROUTES } from '../../src/format/agent-routes.ts';
import { listenUnix } from '../../src/system/listener.ts';
import type { TestHost } from './agent-host.ts';

/** The REST interface of a host in a folder, on a real Unix socket, in this process. */

export interface AgentSocket {
  /** Waits until what was begun has ended too. */
  ask(method: 'GET' | 'POST', verb: string, body?: unknown): Promise<{ status: number; json: { code?: string } }>;
}

export async function agentSocket(host: TestHost): Promise<AgentSocket> {
  const agent = createAgent(host);
  const handlers = agentHandlers({
    host,
    agent,
    hostname: 'host',
    doors: null,
    keyringFrom: 'configuration',
    changeSettings: async () => undefined,
    restart: () => undefined,
  });
  const path = join(host.root, 'run/quantix/node.sock');
  await host.files.makeDirectory('/run/quantix');
  // A refusal is recorded after it was answered: whoever looks for the event waits for both.
  const state = { asked: 0, answered: 0, recorded: Promise.resolve() };
  const record: TestHost['audit']['record'] = (event) => {
    state.recorded = host.audit.record(event);
    return state.recorded;
  };
  const onRefused = auditRefusals({ record }, host.clock);
  const info: TestHost['log']['info'] = (event, fields) => {
    if (event === 'request') state.answered++;
    host.log.info(event, fields);
  };
  const log = { ...host.log, info };
  const service = {
    title: 'agent',
    version: '1',
    routes: AGENT_ROUTES,
    handlers,
    admit: () => null,
    documentFor: 'open' as const,
    onRefused,
    log,
  };
  const listening = await listenUnix(service, path);
  onTestFinished(() => listening.close(0));
  return {
    ask: async (method, verb, body) => {
      const answer = await send(path, method, `/api/v1/updates/${verb}`, body);
      state.asked++;
      while (state.answered < state.asked || agent.activity().kind !== 'idle')
        await new Promise((resolve) => setTimeout(resolve, 5));
      await state.recorded;
      return answer;
    },
  };
}

const send = (socketPath: string, method: string, path: string, body: unknown) =>
  new Promise<{ status: number; json: { code?: string } }>((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = text === undefined ? {} : { 'content-type': 'application/json' };
    const sent = request({ socketPath, method, path, headers: { host: 'localhost', ...headers } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, json: JSON.parse(Buffer.concat(chunks).toString() || '{}') }),
      );
    });
    sent.on('error', reject);
    sent.end(text);
  });
