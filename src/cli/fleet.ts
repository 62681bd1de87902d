import { rootCommand, runCommand } from './command.ts';

/** Present before there is a fleet to command, so that a script can tell "not in this release" from a missing program. */
export function main(args: readonly string[]): Promise<number> {
  const program = rootCommand('qx-fleet', 'Nodes, rollouts, maintenance and migrations of a fleet, from the terminal.');
  program.argument('[command...]', 'none in this release').action(() => {
    program.error('qx-fleet: this release has no fleet commands; they arrive with drain coordination');
  });
  return runCommand(program, args);
}
