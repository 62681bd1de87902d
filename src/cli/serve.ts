import { rootCommand, runCommand } from './command.ts';

export function agentMain(args: readonly string[]): Promise<number> {
  const description = 'Quantix host agent: keeps this host up to date from signed releases.';
  return runCommand(rootCommand('qx-node', description), args);
}

export function serverMain(args: readonly string[]): Promise<number> {
  const description = 'Quantix update server: publishes signed releases and serves them to hosts.';
  return runCommand(rootCommand('qx-update-server', description), args);
}
