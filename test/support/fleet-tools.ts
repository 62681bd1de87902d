import { runFleet } from '../../src/cli/fleet/program.ts';
import { exitCode, explain } from '../../src/errors.ts';
import type { Ran } from './release-tools.ts';

/** Runs qx-fleet within this process, and ends as main does. */
export async function fleetTool(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const tools = {
    stdout: { write: (text: string) => out.push(text) },
    stderr: { write: (text: string) => err.push(text) },
  };
  const ended = (code: number): Ran => ({ exitCode: code, stdout: out.join(''), stderr: err.join('') });
  try {
    return ended(await runFleet(args, { ...tools, env }));
  } catch (error) {
    err.push(`${explain(error)}\n`);
    return ended(exitCode(error));
  }
}
