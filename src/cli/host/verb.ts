import { resolve } from 'node:path';
import { Command } from 'commander';
import type { Host } from '../../agent/host.ts';
import { isRefusal, type Refusal } from '../../core/plan.ts';
import { QxError } from '../../errors.ts';
import type { Log } from '../../ports.ts';
import { type AgentClient, agentClient } from '../client.ts';
import { AGENT_SOCKET } from '../composed.ts';
import { printable } from '../render.ts';
import { examples, type Output, type Program, runs } from '../verb.ts';
import type { HostTools } from './tools.ts';

/** A verb of qx-update: what it is called and what it says of itself, apart from how it is run. */
export interface Verb<Options extends object = object> {
  readonly name: string;
  readonly summary: string;
  /** What its exit codes mean here, and whatever else --help should say. */
  readonly notes: string;
  readonly examples: readonly string[];
  readonly arguments?: (command: Command) => Command;
  /** Answers the exit code. */
  readonly run: (context: VerbContext, options: Options, args: readonly string[]) => Promise<number>;
}

/** What a verb may print to, ask and change. */
export interface VerbContext extends Output {
  readonly agent: AgentClient;
  readonly interrupted: () => AbortSignal;
  /** Runs something on the host itself, without its agent. @throws QxError FORBIDDEN when that needs root */
  onHost<T>(work: (host: Host) => Promise<T>): Promise<T>;
}

interface GlobalOptions {
  readonly root?: string;
  readonly socket?: string;
}

export function verbCommand<Options extends object>(verb: Verb<Options>, program: Program<HostTools>): Command {
  const plain = new Command(verb.name).description(verb.summary);
  const command = verb.arguments?.(plain) ?? plain;
  command.addHelpText('after', `\n${verb.notes}\n${examples(...verb.examples)}`);
  runs<Options & GlobalOptions>(command, program, (output, options, args) =>
    verb.run({ ...output, ...reachOf(verb.name, options, program.tools) }, options, args),
  );
  return command;
}

/** How a verb gets at the host: through its agent, or at the host itself. */
function reachOf(verb: string, options: GlobalOptions, tools: HostTools): Omit<VerbContext, keyof Output> {
  const { root = '' } = options;
  return {
    agent: agentClient(options.socket === undefined ? `${root}${AGENT_SOCKET}` : resolve(options.socket)),
    interrupted: () => tools.interrupted(),
    onHost: async (work) => {
      if (root === '' && !tools.isRoot) {
        throw new QxError('FORBIDDEN', `qx-update ${verb} changes what boots: only root may`, {
          next: 'run it as root',
        });
      }
      const host = await tools.compose(root, quietLog(tools));
      try {
        return await work(host);
      } finally {
        await host.close();
      }
    },
  };
}

/** The daemon keeps a log; here only what went wrong is worth a line, and stdout is for the result. */
const quietLog = ({ stderr }: HostTools): Log => ({
  info: () => undefined,
  warn: (event, fields) => {
    stderr.write(`${printable(`warning: ${event.replaceAll('_', ' ')}: ${String(fields?.detail ?? '')}`)}\n`);
  },
});

/** A refusal is a value in the journeys; to whoever typed the command it is the reason why nothing was done. */
export function orThrow<T extends { readonly kind: string }>(result: T | Refusal): Exclude<T, Refusal> {
  if (!isRefusal(result)) return result as Exclude<T, Refusal>;
  const { code, detail, next } = result;
  throw new QxError(code, detail, next === undefined ? {} : { next });
}
