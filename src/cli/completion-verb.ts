import { Argument, type Command } from 'commander';
import { completionScript, SHELLS, type Shell } from './completion.ts';
import { examples, type Program, runs } from './verb.ts';

export function addCompletion(commands: Command, program: Program): void {
  const command = commands
    .command('completion')
    .summary('print a script that lets a shell complete verbs and options')
    .description('Prints a script for a shell, made from the verbs themselves.')
    .addArgument(new Argument('<shell>', 'which one').choices(SHELLS))
    .addHelpText('after', examples(`source <(${program.name} completion bash)`));
  runs(command, program, async (output, _options, [shell]) => {
    const script = completionScript(shell as Shell, commands);
    output.result({ shell, script }, script);
  });
}
