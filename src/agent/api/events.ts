import type { AgentEvent } from '../../format/agent-documents.ts';
import type { Reply } from '../../ports/serving.ts';
import type { Clock } from '../../ports.ts';
import type { Agent } from '../agent.ts';
import { progressResponse } from './answers.ts';

/**
 * Status and progress as they change. The agent is looked at instead of listened to: other programs finish updates too, and a reader
 * that is slow gets the newest state and never a queue.
 */

const LOOK_MS = 500;
/** So that a proxy or a browser does not take a quiet host for a dead one, and we notice readers that are gone. */
const HEARTBEAT_LOOKS = 20;

export const eventStream = (agent: Agent, clock: Clock, signal: AbortSignal): Reply<AgentEvent> => ({
  stream: encoded(agent, clock, signal),
  type: 'text/event-stream',
  headers: { 'cache-control': 'no-store' },
});

async function* encoded(agent: Agent, clock: Clock, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  const sent = new Map<string, string>();
  for (let quiet = 0; !signal.aborted; quiet++) {
    const status: AgentEvent = { type: 'status', data: await agent.status() };
    const progress: AgentEvent = { type: 'progress', data: progressResponse(agent) };
    for (const { type, data } of [status, progress]) {
      const text = JSON.stringify(data);
      if (sent.get(type) === text) continue;
      sent.set(type, text);
      quiet = 0;
      yield encoder.encode(`event: ${type}\ndata: ${text}\n\n`);
    }
    if (quiet > 0 && quiet % HEARTBEAT_LOOKS === 0) yield encoder.encode(': still here\n\n');
    await clock.sleep(LOOK_MS, signal).catch(() => undefined);
  }
}
