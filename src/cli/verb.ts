import type { Command } from 'commander';
import { asQxError, exitCode } from '../errors.ts';
import { jsonLine, type ProgressReporter, printable, progressReporter, type Stream } from './render.ts';

/** What the verbs of every program share: where they print, and how a failure is told. */

/** The program that a verb belongs to. */
export interface Program<Tools extends Streams = Streams> {
  readonly name: string;
  readonly tools: Tools;
  /** Takes the exit code of a verb that was not told by an exception. */
  finish(exitCode: number): void;
}

interface Streams {
  readonly stdout: Stream;
  readonly stderr: Stream;
}

/** stdout carries the result and nothing else; notes, warnings and progress go to stderr. */
export interface Output {
  readonly isJson: boolean;
  readonly isTerminal: boolean;
  result(fields: object, text: string): void;
  /** One of several documents of a verb that goes on. False once nobody reads them any more. */
  emit(document: string, fields: object, text: string): boolean;
  note(text: string): void;
  readonly progress: ProgressReporter;
}

const SCHEMA_VERSION = 1;

export const schemaOf = (program: string, verb: string): string => `${program}.${verb}/${SCHEMA_VERSION}`;

/** Answers the exit code; nothing is 0. */
type Run<Options> = (output: Output, options: Options, args: readonly string[]) => Promise<number> | Promise<void>;

/**
 * Gives a command its action. With --json a failure is a document on stdout too: a script that reads JSON should not have to
 * take a sentence apart.
 */
export function runs<Options extends object>(command: Command, program: Program, run: Run<Options>): void {
  command.action(async () => {
    const names = namesOf(command);
    const verb = names.join(' ');
    const options = command.optsWithGlobals<Options & { readonly json?: boolean }>();
    const output = outputOf(program, names[0] ?? '', options.json === true);
    try {
      program.finish((await run(output, options, command.args)) ?? 0);
    } catch (error) {
      output.progress.end();
      if (!output.isJson) throw error;
      const { code, message, next } = asQxError(error);
      const fields = { verb, code, detail: message, ...(next === undefined ? {} : { next }) };
      const document = jsonLine(schemaOf(program.name, 'error'), { ...fields, exit_code: exitCode(error) });
      program.tools.stdout.write(document);
      program.finish(exitCode(error));
    }
  });
}

/** `config set` -> ['config', 'set']: the schema is that of the first. */
const namesOf = (command: Command): readonly string[] =>
  command.parent === null ? [] : [...namesOf(command.parent), command.name()];

function outputOf({ name, tools: { stdout, stderr } }: Program, verb: string, isJson: boolean): Output {
  const emit: Output['emit'] = (document, fields, text) => {
    stdout.write(isJson ? jsonLine(schemaOf(name, document), fields) : printable(text));
    return stdout.writable !== false;
  };
  return {
    isJson,
    isTerminal: stdout.isTTY === true,
    result: (fields, text) => void emit(verb, fields, text),
    emit,
    note: (text) => {
      stderr.write(`${printable(text)}\n`);
    },
    progress: progressReporter(stderr, schemaOf(name, 'progress'), { json: isJson }),
  };
}

/** The examples at the end of a verb's --help. */
export const examples = (...lines: readonly string[]): string =>
  `\nExamples:\n${lines.map((line) => `  ${line}\n`).join('')}`;
