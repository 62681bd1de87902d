import type { HostTools } from '../../src/cli/host/tools.ts';
import { runHost } from '../../src/cli/host.ts';
import { composeHost, composeRecords } from '../../src/cli/serve.ts';
import { exitCode, explain } from '../../src/errors.ts';

/** qx-update on a host in a folder, within this process: for what needs no process of its own. */

const tools = (changes: Partial<HostTools> = {}): HostTools => ({
  stdout: { write: () => true },
  stderr: { write: () => true },
  isRoot: true,
  compose: (root, log) => composeHost(root, { log }),
  composeRecords,
  stdin: async () => '',
  interrupted: () => new AbortController().signal,
  ...changes,
});

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Ends as main does. */
export async function runInProcess(args: readonly string[], changes: Partial<HostTools> = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const streams = {
    stdout: { write: (text: string) => out.push(text) },
    stderr: { write: (text: string) => err.push(text) },
  };
  const ended = (code: number): Ran => ({ exitCode: code, stdout: out.join(''), stderr: err.join('') });
  try {
    return ended(await runHost(args, tools({ ...streams, ...changes })));
  } catch (error) {
    err.push(`${explain(error)}\n`);
    return ended(exitCode(error));
  }
}
