import { createAgent } from '../../src/agent/agent.ts';
import { agentHandlers } from '../../src/agent/api.ts';
import { readAudit } from '../../src/agent/audit.ts';
import { changeSettings } from '../../src/agent/settings.ts';
import { QxError } from '../../src/errors.ts';
import type { AGENT_ROUTES } from '../../src/format/agent-routes.ts';
import type { AuditEvent } from '../../src/format/audit.ts';
import type { Call, Caller, Handler, Reply } from '../../src/ports/serving.ts';
import type { TestHost } from './agent-host.ts';

/** The handlers of a host's REST interface, called as the listener calls them once it has let somebody in. */

type RouteName = keyof typeof AGENT_ROUTES;

export interface AgentApi {
  call(name: RouteName, body?: unknown, via?: Caller['via']): Promise<Reply<unknown>>;
  /** What was answered in JSON, or the code of the refusal. */
  ask(name: RouteName, body?: unknown, via?: Caller['via']): Promise<unknown>;
  /** How the update that was ordered ended. */
  untilIdle(): Promise<void>;
  /** How often the agent wanted to be started anew. */
  readonly restarts: () => number;
  audited(): Promise<readonly Pick<AuditEvent, 'event' | 'code' | 'actor' | 'detail' | 'fields'>[]>;
}

const CALLERS: Readonly<Record<Caller['via'], Caller>> = {
  unix: { via: 'unix', address: 'unix', headers: {}, queryNames: [], certificate: null },
  tcp: { via: 'tcp', address: '10.0.0.7', headers: {}, queryNames: [], certificate: null },
};

export function agentApi(host: TestHost): AgentApi {
  const count = { restarts: 0 };
  const restart = (): void => void count.restarts++;
  const agent = createAgent(host, { restart });
  const handlers = agentHandlers({
    host,
    agent,
    hostname: 'test-host',
    doors: null,
    keyringFrom: 'executable',
    restart,
    changeSettings: async (change) => void Object.assign(host, { config: await changeSettings(host.files, change) }),
  });
  const call: AgentApi['call'] = (name, body, via = 'unix') => {
    const request = { params: {}, query: {}, body, caller: CALLERS[via], signal: new AbortController().signal };
    return (handlers[name] as Handler<never>)({ ...request, parts: none() } as unknown as Call<never>);
  };
  return {
    call,
    ask: async (name, body, via) => {
      const reply = await call(name, body, via).catch((error: unknown) => ({ refused: error }));
      if ('json' in reply) return reply.json;
      if ('refused' in reply && reply.refused instanceof QxError) return reply.refused.code;
      throw new Error('neither an answer in JSON nor a refusal');
    },
    untilIdle: async () => {
      while (agent.activity().kind !== 'idle') await new Promise((resolve) => setTimeout(resolve, 5));
    },
    restarts: () => count.restarts,
    audited: async () =>
      (await readAudit(host.files)).events.map(({ event, code, actor, detail, fields }) => ({
        event,
        ...(code === undefined ? {} : { code }),
        ...(actor === undefined ? {} : { actor }),
        ...(detail === undefined ? {} : { detail }),
        ...(fields === undefined ? {} : { fields }),
      })),
  };
}

async function* none(): AsyncGenerator<never> {}
