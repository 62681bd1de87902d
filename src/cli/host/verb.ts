import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { isRefusal, type Refusal } from '../../core/plan.ts';
import { QxError } from '../../errors.ts';
import type { Log } from '../../ports.ts';
import { type AgentClient, agentClient } from '../client.ts';
import { AGENT_SOCKET, type ComposedHost, type HostRecords, SUPERVISOR_PID } from '../composed.ts';
import { printable } from '../render.ts';
import { examples, type Output, type Program, runs } from '../verb.ts';
import type { HostTools } from './tools.ts';

/** A verb of qx-update: what it is called and what it says of itself, apart from how it is run. */
export interface Verb<Options extends object = never> {
  readonly name: string;
  readonly summary: string;
  /** What its exit codes mean here, and whatever else --help should say. */
  readonly notes: string;
  readonly examples: readonly string[];
  readonly arguments?: (command: Command) => Command;
  /** Answers the exit code. */
  readonly run: (context: VerbContext, options: Options, args: readonly string[]) => Promise<number>;
}

/** Verbs about one thing, called by two words: `config set`. They print documents of one schema. */
export interface VerbGroup {
  readonly name: string;
  readonly summary: string;
  readonly notes: string;
  readonly verbs: readonly Verb[];
}

/** What a verb may print to, ask and change. */
export interface VerbContext extends Output {
  readonly agent: AgentClient;
  readonly interrupted: () => AbortSignal;
  stdin(): Promise<string>;
  /** Runs something on the host itself, without its agent. @throws QxError FORBIDDEN when that needs root */
  onHost<T>(work: (host: ComposedHost) => Promise<T>): Promise<T>;
  /**
   * Files and audit log of the host itself, also where its settings are broken. `isLost`: also where they are not mounted.
   * @throws QxError FORBIDDEN when that needs root, MOUNT_MISSING
   */
  records(options?: { readonly isLost?: boolean }): Promise<HostRecords>;
  /** Of the machine that the command is typed on, for files that are named on the command line. */
  localRecords(): Promise<HostRecords>;
  /** All commands of the program. */
  readonly commands: Command;
}

interface GlobalOptions {
  readonly root?: string;
  readonly socket?: string;
}

export function verbCommand(verb: Verb, program: Program<HostTools>): Command {
  const plain = new Command(verb.name).description(verb.summary);
  const command = verb.arguments?.(plain) ?? plain;
  command.addHelpText('after', `\n${verb.notes}\n${examples(...verb.examples)}`);
  runs<GlobalOptions>(command, program, (output, options, args) => {
    const reach = reachOf(verb.name, options, program.tools);
    const context = { ...output, ...reach, agent: agentOf(options, output), commands: topOf(command) };
    // The options are those that `arguments` of the same row has declared.
    return verb.run(context, options as never, args);
  });
  return command;
}

export function groupCommand(group: VerbGroup, program: Program<HostTools>): Command {
  const command = new Command(group.name).description(group.summary).helpCommand(false);
  command.addHelpText('after', `\n${group.notes}\n${examples(...group.verbs.flatMap((verb) => verb.examples))}`);
  for (const verb of group.verbs) command.addCommand(verbCommand(verb, program));
  return command;
}

const topOf = (command: Command): Command => (command.parent === null ? command : topOf(command.parent));

/** Only the pid of a process of this machine says anything. */
function agentOf({ root = '', socket }: GlobalOptions, { progress, note }: Output): AgentClient {
  if (socket !== undefined) return agentClient(resolve(socket));
  if (root !== '') return agentClient(`${root}${AGENT_SOCKET}`);
  const onWait = (): void => {
    progress.end();
    note('The agent is being started; waiting for it.');
  };
  return agentClient(AGENT_SOCKET, { supervisor: SUPERVISOR_PID, onWait });
}

/** How a verb gets at the host without its agent. */
function reachOf(
  verb: string,
  options: GlobalOptions,
  tools: HostTools,
): Omit<VerbContext, keyof Output | 'agent' | 'commands'> {
  const { root = '' } = options;
  const log = quietLog(tools);
  const needRoot = (): void => {
    if (root !== '' || tools.isRoot) return;
    const detail = `qx-update ${verb} works on the host itself: only root may`;
    throw new QxError('FORBIDDEN', detail, { next: 'run it as root' });
  };
  return {
    interrupted: () => tools.interrupted(),
    stdin: () => tools.stdin(),
    onHost: async (work) => {
      needRoot();
      const host = await tools.compose(root, log);
      try {
        return await work(host);
      } finally {
        await host.close();
      }
    },
    records: async ({ isLost = false } = {}) => {
      needRoot();
      const records = await tools.composeRecords(root, log);
      const { mountTrouble } = await import('../../agent/mounts.ts');
      const lost = isLost ? null : await mountTrouble(records, ['/quantix']);
      if (lost !== null) throw lost;
      return records;
    },
    localRecords: () => tools.composeRecords('', log),
  };
}

/** The daemon keeps a log; here only what went wrong is worth a line, and stdout is for the result. */
const quietLog = ({ stderr }: HostTools): Log => ({
  info: () => undefined,
  warn: (event, fields) => {
    stderr.write(`${printable(`warning: ${event.replaceAll('_', ' ')}: ${String(fields?.detail ?? '')}`)}\n`);
  },
});

/** Who it was, for the audit log. */
export const OPERATOR = 'root at the command line';

/** A refusal is a value in the journeys; to whoever typed the command it is the reason why nothing was done. */
export function orThrow<T extends { readonly kind: string }>(result: T | Refusal): Exclude<T, Refusal> {
  if (!isRefusal(result)) return result as Exclude<T, Refusal>;
  const { code, detail, next } = result;
  throw new QxError(code, detail, next === undefined ? {} : { next });
}

/** Of an option such as --limit. */
export function wholeNumber(text: string): number {
  if (/^[1-9][0-9]{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It has to be a whole number, at least 1.');
}
