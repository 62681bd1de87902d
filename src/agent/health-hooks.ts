import type { ProbeResult } from '../core/health.ts';
import { asQxError } from '../errors.ts';
import type { ProcessResult } from '../ports.ts';
import { type HookProgram, hookPrograms, lastWords, linesOf } from './hook-programs.ts';
import type { Host } from './host.ts';

/**
 * What only the operator of this host can know: programs in `health.d`. Exit code 0 says that the host is well, and each line
 * of the output is a fact; what a hook said before an update it has to say after it.
 */

export interface HookResult {
  readonly probe: ProbeResult;
  readonly facts: readonly string[];
}

const TIMEOUT_MS = 10_000;
const MAX_FACTS = 200;
const MAX_FACT_CHARACTERS = 200;

/** One after the other, in the order of their names. */
export async function runHooks(host: Host, signal?: AbortSignal): Promise<readonly HookResult[]> {
  const results: HookResult[] = [];
  for (const program of await hookPrograms(host.files, 'health.d')) results.push(await runHook(host, program, signal));
  return results;
}

async function runHook({ hooks }: Host, { name, path, state }: HookProgram, signal?: AbortSignal): Promise<HookResult> {
  if (state === 'switched off') return { probe: { name, ok: true, fatal: false, detail: 'switched off' }, facts: [] };
  if (state === 'unsafe') {
    const detail = `not run: others than root may write to ${path}`;
    return { probe: { name, ok: false, fatal: false, detail }, facts: [] };
  }
  try {
    return judged(name, await hooks.run(path, { timeoutMs: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) }));
  } catch (error) {
    const { code, message } = asQxError(error);
    if (code === 'CANCELLED') throw error;
    return { probe: { name, ok: false, fatal: true, detail: message }, facts: [] };
  }
}

function judged(name: string, { exitCode, stdout, stderr }: ProcessResult): HookResult {
  const lines = linesOf(stdout);
  if (exitCode === 0) {
    const facts = lines.slice(0, MAX_FACTS).map((line) => `${name}: ${line.slice(0, MAX_FACT_CHARACTERS)}`);
    return { probe: { name, ok: true, fatal: true, detail: 'well' }, facts };
  }
  return {
    probe: { name, ok: false, fatal: true, detail: `exit code ${exitCode}: ${lastWords(stdout, stderr)}` },
    facts: [],
  };
}
