import type { Command } from 'commander';
import { rootCommand, rootOption, runCommand } from './command.ts';
import type { HostTools } from './host/tools.ts';
import { groupCommand, type Verb, type VerbGroup, verbCommand } from './host/verb.ts';
import { VERBS } from './host/verbs.ts';
import type { Program } from './verb.ts';

/** The command line of a host: `qx-update VERB`, and the flag forms that older documents use. */
export function main(args: readonly string[]): Promise<number> {
  return runHost(args, {
    stdout: process.stdout,
    stderr: process.stderr,
    isRoot: process.getuid?.() === 0,
    compose: async (root, log) => (await import('./serve.ts')).composeHost(root, { log }),
    composeRecords: async (root, log) => (await import('./serve.ts')).composeRecords(root, log),
    stdin: async () => (await import('node:stream/consumers')).text(process.stdin),
    interrupted: () => {
      const interrupt = new AbortController();
      process.once('SIGINT', () => interrupt.abort());
      return interrupt.signal;
    },
  });
}

const FLAG_FORMS: Readonly<Record<string, string>> = {
  '--check': 'check',
  '--status': 'status',
  '--rollback': 'rollback',
};

const NOTES = `
qx-update --check, --status and --rollback are the same as the verbs.

Exit codes: 0 done, 2 usage, 3 nothing to do, 4 reboot required, 5 refused by policy, 6 busy, 7 verification failed,
8 no space, 9 server unreachable, 10 agent not running, 1 anything else.

With --json, stdout is one line: {"schema":"qx-update.VERB/1", ...}, or {"schema":"qx-update.error/1", "code": ...}.

Examples:
  qx-update check
  qx-update apply
  qx-update status --json
  qx-update apply --help`;

export async function runHost(args: readonly string[], tools: HostTools): Promise<number> {
  const outcome = { exitCode: 0 };
  const program = hostProgram(tools, (exitCode) => void Object.assign(outcome, { exitCode }));
  const exitCode = await runCommand(program, asVerbs(args));
  return exitCode === 0 ? outcome.exitCode : exitCode;
}

/** The tree of commands, which the help and the completion of shells are made from too. */
export function hostProgram(tools: HostTools, finish: (exitCode: number) => void): Command {
  const program = rootCommand('qx-update', 'Shows and controls the updates of this host.')
    .option('--json', 'print one JSON document on one line; progress as JSON lines on stderr')
    .addOption(rootOption())
    .option('--socket <path>', "the agent's socket, when it is not where it belongs")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => tools.stdout.write(text),
      writeErr: (text) => tools.stderr.write(text),
    })
    .addHelpText('after', NOTES);
  for (const [group, verbs] of Object.entries(VERBS)) {
    for (const verb of verbs) {
      program.addCommand(commandOf(verb, { name: 'qx-update', tools, finish }).helpGroup(`${group}:`));
    }
  }
  inherit(program);
  return program;
}

const commandOf = (verb: Verb | VerbGroup, program: Program<HostTools>): Command =>
  'verbs' in verb ? groupCommand(verb, program) : verbCommand(verb, program);

function inherit(parent: Command): void {
  for (const command of parent.commands) inherit(command.copyInheritedSettings(parent));
}

/** `--status` as `status`, unless a verb came before it: then it is an option, or an argument, of that verb. */
function asVerbs(args: readonly string[]): readonly string[] {
  const at = args.findIndex((arg) => Object.hasOwn(FLAG_FORMS, arg));
  const isVerb = (arg: string): boolean => Object.values(VERBS).some((verbs) => verbs.some(({ name }) => name === arg));
  if (at < 0 || args.slice(0, at).some(isVerb)) return args;
  return args.with(at, FLAG_FORMS[args[at] ?? ''] ?? '');
}
