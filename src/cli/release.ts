import { rootCommand, runCommand } from './command.ts';

export function main(args: readonly string[]): Promise<number> {
  return runCommand(rootCommand('qx-release', 'Makes keys, packs, signs, verifies and publishes releases.'), args);
}
