import { resolve } from 'node:path';
import { Command } from 'commander';
import type { Host } from '../../agent/host.ts';
import type { Refusal } from '../../core/plan.ts';
import { asQxError, exitCode, QxError } from '../../errors.ts';
import type { Log } from '../../ports.ts';
import { type AgentClient, agentClient } from '../client.ts';
import { AGENT_SOCKET } from '../composed.ts';
import { jsonLine, type ProgressReporter, printable, progressReporter } from '../render.ts';
import type { HostTools } from './tools.ts';

/** What each verb is and gets. stdout carries the result and nothing else; notes and progress go to stderr. */
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

export interface VerbContext {
  readonly isJson: boolean;
  readonly agent: AgentClient;
  result(fields: object, text: string): void;
  note(text: string): void;
  readonly progress: ProgressReporter;
  readonly interrupted: () => AbortSignal;
  /** Runs something on the host itself, without its agent. @throws QxError FORBIDDEN when that needs root */
  onHost<T>(work: (host: Host) => Promise<T>): Promise<T>;
}

interface GlobalOptions {
  readonly json?: boolean;
  readonly root?: string;
  readonly socket?: string;
}

const SCHEMA_VERSION = 1;

export function verbCommand<Options extends object>(
  verb: Verb<Options>,
  tools: HostTools,
  finish: (exitCode: number) => void,
): Command {
  const plain = new Command(verb.name).description(verb.summary);
  const command = verb.arguments?.(plain) ?? plain;
  const examples = verb.examples.map((line) => `  ${line}\n`).join('');
  command.addHelpText('after', `\n${verb.notes}\n\nExamples:\n${examples}`);
  return command.action(async () => {
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const context = contextOf(verb.name, options, tools);
    try {
      finish(await verb.run(context, options, command.args));
    } catch (error) {
      context.progress.end();
      if (!context.isJson) throw error;
      const { code, message, next } = asQxError(error);
      const fields = { verb: verb.name, code, detail: message, ...(next === undefined ? {} : { next }) };
      tools.stdout.write(jsonLine(`qx-update.error/${SCHEMA_VERSION}`, { ...fields, exit_code: exitCode(error) }));
      finish(exitCode(error));
    }
  });
}

function contextOf(verb: string, options: GlobalOptions, tools: HostTools): VerbContext {
  const isJson = options.json === true;
  const { root = '' } = options;
  return {
    isJson,
    agent: agentClient(options.socket === undefined ? `${root}${AGENT_SOCKET}` : resolve(options.socket)),
    result: (fields, text) => {
      tools.stdout.write(isJson ? jsonLine(`qx-update.${verb}/${SCHEMA_VERSION}`, fields) : printable(text));
    },
    note: (text) => {
      tools.stderr.write(`${printable(text)}\n`);
    },
    progress: progressReporter(tools.stderr, `qx-update.progress/${SCHEMA_VERSION}`, { json: isJson }),
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

const isRefusal = (result: { readonly kind: string }): result is Refusal => result.kind === 'refusal';
