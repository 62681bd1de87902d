import { runRelease } from '../../src/cli/release/program.ts';
import type { ReleaseTools } from '../../src/cli/release/tools.ts';
import { machineTools } from '../../src/cli/release.ts';
import { exitCode, explain } from '../../src/errors.ts';
import { undiciHttp } from '../../src/system/http.ts';

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs qx-release on the real machine within this process, and ends as main does. */
export async function release(args: readonly string[], changes: Partial<ReleaseTools> = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const http = undiciHttp();
  const tools: ReleaseTools = {
    ...machineTools(http),
    bakedKeyring: () => null,
    stdout: { write: (text) => out.push(text) },
    stderr: { write: (text) => err.push(text) },
    env: {},
    ...changes,
  };
  const ended = (code: number): Ran => ({ exitCode: code, stdout: out.join(''), stderr: err.join('') });
  try {
    return ended(await runRelease(args, tools));
  } catch (error) {
    err.push(`${explain(error)}\n`);
    return ended(exitCode(error));
  } finally {
    await http.close();
  }
}

/** The one document that a run with --json prints. */
export function document({ stdout }: Ran): Record<string, unknown> & { schema: string } {
  return JSON.parse(stdout);
}
