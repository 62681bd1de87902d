import { resolve } from 'node:path';
import { Command, CommanderError, Option } from 'commander';

/** The root of a program's command tree. Commander reports by exceptions, so that main alone decides the exit code. */
export function rootCommand(name: string, description: string): Command {
  return (
    new Command(name)
      .description(description)
      .exitOverride()
      .showSuggestionAfterError()
      // main answers --version before commander is loaded; it is no option here, since commands have one of their own.
      .addHelpText('after', '\nWith --version alone it prints its version and the keyring it was built with.')
  );
}

/**
 * The folder that a host lives in, as a prefix of its paths; '' is this machine. The boot scripts name it by QX_ROOT, so what
 * they call acts on the same host as they do.
 */
export const rootOption = (): Option =>
  new Option('--root <dir>', 'the host that lives in this folder, instead of this machine: every host path is below it')
    .env('QX_ROOT')
    .argParser((folder: string) => (folder === '' ? '' : resolve(folder).replace(/\/+$/, '')));

const usageExitCode = 2;

/**
 * Runs a command tree. Help that was asked for is success and what commander refuses is a usage error; an action reports
 * any other outcome (nothing to do, reboot required) through process.exitCode.
 */
export async function runCommand(command: Command, args: readonly string[]): Promise<number> {
  markRequired(command);
  try {
    await command.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : usageExitCode;
  }
  return Number(process.exitCode ?? 0);
}

/** Commander refuses a command without them, and its help tells them from the others by nothing. */
function markRequired(command: Command): void {
  for (const one of command.commands) markRequired(one);
  const required = command.options.filter((option) => option.mandatory && option.defaultValue === undefined);
  if (required.length === 0) return;
  const usage = command.usage();
  command.usage([...required.map(({ flags }) => flags), usage].join(' '));
  for (const option of required) option.description += ' (required)';
}
