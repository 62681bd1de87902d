import { Argument } from 'commander';
import { EXIT } from '../../errors.ts';
import { completionScript, SHELLS, type Shell } from '../completion.ts';
import type { Verb } from './verb.ts';

export const completion: Verb = {
  name: 'completion',
  summary: 'Print a script that lets a shell complete verbs and options',
  notes: 'Made from the verbs themselves. Needs no agent and no root. Exit code 0.',
  examples: [
    'source <(qx-update completion bash)',
    'qx-update completion fish >~/.config/fish/completions/qx-update.fish',
  ],
  arguments: (command) => command.addArgument(new Argument('<shell>', 'which one').choices(SHELLS)),
  run: async ({ result, commands }, _options, [shell]) => {
    const script = completionScript(shell as Shell, commands);
    result({ shell, script }, script);
    return EXIT.done;
  },
};
