import type { Command } from 'commander';
import { asQxError, exitCode } from '../../errors.ts';
import { jsonLine, type ProgressReporter, printable, progressReporter } from '../render.ts';
import type { ReleaseTools } from './tools.ts';

/** What the verbs share: the tools, and the exit code of a failure that was already told as JSON. */
export interface ReleaseContext {
  readonly tools: ReleaseTools;
  readonly outcome: { exitCode: number };
}

/** stdout carries the result and nothing else; notes, warnings and progress go to stderr. */
export interface Output {
  readonly isJson: boolean;
  result(fields: object, text: string): void;
  note(text: string): void;
  readonly progress: ProgressReporter;
}

const SCHEMA_VERSION = 1;

type Run<Options> = (output: Output, options: Options, args: readonly string[]) => Promise<void>;

/**
 * Gives a command its action and the option --json, with which a failure is a document on stdout too: a script that reads
 * JSON should not have to take a sentence apart.
 */
export function runs<Options extends object>(command: Command, context: ReleaseContext, run: Run<Options>): void {
  const { tools, outcome } = context;
  const schema = `qx-release.${command.name()}/${SCHEMA_VERSION}`;
  command.option('--json', `print one JSON document (schema ${schema}); progress as JSON lines on stderr`);
  command.action(async () => {
    const options = command.opts<Options & { json?: boolean }>();
    const output = outputOf(tools, command.name(), options.json === true);
    try {
      await run(output, options, command.args);
    } catch (error) {
      if (options.json !== true) throw error;
      const { code, message, next } = asQxError(error);
      const fields = { verb: command.name(), code, detail: message, ...(next === undefined ? {} : { next }) };
      tools.stdout.write(jsonLine(`qx-release.error/${SCHEMA_VERSION}`, { ...fields, exit_code: exitCode(error) }));
      outcome.exitCode = exitCode(error);
    }
  });
}

function outputOf(tools: ReleaseTools, verb: string, isJson: boolean): Output {
  return {
    isJson,
    result: (fields, text) => {
      tools.stdout.write(isJson ? jsonLine(`qx-release.${verb}/${SCHEMA_VERSION}`, fields) : text);
    },
    note: (text) => {
      tools.stderr.write(`${printable(text)}\n`);
    },
    progress: progressReporter(tools.stderr, `qx-release.progress/${SCHEMA_VERSION}`, { json: isJson }),
  };
}

/** The examples at the end of a verb's --help. */
export const examples = (...lines: readonly string[]): string =>
  `\nExamples:\n${lines.map((line) => `  ${line}\n`).join('')}`;
