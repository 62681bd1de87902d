import { rootCommand, runCommand } from './command.ts';

export function main(args: readonly string[]): Promise<number> {
  return runCommand(rootCommand('qx-update', 'Shows and controls the updates of this host.'), args);
}
