import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, isCode } from '../../errors.ts';
import type { AgentEvent, ProgressResponse, UpdateStatus } from '../../format/agent-documents.ts';
import { AGENT_ROUTES } from '../../format/agent-routes.ts';
import type { Verb, VerbContext } from './verb.ts';

const AGAIN_MS = 1000;

export const events: Verb = {
  name: 'events',
  summary: 'Print status and progress as they change, until Ctrl-C',
  notes: `With --json each line is a document {"schema":"qx-update.event/1","type":"status" or "progress","data":{...}}. When the agent
ends, its successor is waited for.
Exit code 0 after Ctrl-C, 10 when the agent does not run to begin with.`,
  examples: ['qx-update events', 'qx-update events --json | jq -r \'select(.type == "status") | .data.status\''],
  run: async (context) => {
    const signal = context.interrupted();
    const seen = { anything: false };
    while (!signal.aborted) {
      try {
        for await (const event of context.agent.events(AGENT_ROUTES.events, signal)) {
          seen.anything = true;
          if (!tell(context, event)) return EXIT.done;
        }
      } catch (error) {
        if (!seen.anything || !isCode(error, 'AGENT_DOWN')) throw error;
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
      }
    }
    return EXIT.done;
  },
};

const tell = ({ emit }: VerbContext, event: AgentEvent): boolean =>
  emit('event', event, event.type === 'status' ? statusLine(event.data) : progressLine(event.data));

const statusLine = ({ status, message, progress, held }: UpdateStatus): string =>
  line('status', [
    `${status.replaceAll('_', ' ')}${progress === undefined ? '' : ` ${progress} %`}`,
    message,
    held === undefined ? undefined : `on hold: ${held}`,
  ]);

function progressLine({ phase, name, doneBytes, totalBytes, result }: ProgressResponse): string {
  if (result === undefined) return line('progress', [phase, name, totalBytes > 0 ? `${doneBytes}/${totalBytes}` : '']);
  const { kind, version, refused } = result;
  return line('progress', [kind.replaceAll('_', ' '), version, refused && `${refused.detail} [${refused.code}]`]);
}

const line = (type: string, parts: readonly (string | undefined)[]): string =>
  `${type.padEnd(8)}  ${parts.filter((part) => part !== undefined && part !== '').join('  ')}\n`;
