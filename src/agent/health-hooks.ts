import type { ProbeResult } from '../core/health.ts';
import { asQxError } from '../errors.ts';
import type { FileInfo, ProcessResult } from '../ports.ts';
import type { Host } from './host.ts';

/**
 * What only the operator of this host can know: programs in `health.d`. Exit code 0 says that the host is well, and each line
 * of the output is a fact; what a hook said before an update it has to say after it.
 */

/** A program under /quantix takes the place of the image's own of that name; one that cannot be run switches it off. */
const HOOK_FOLDERS = ['/etc/limiquantix/health.d', '/quantix/limiquantix/health.d'] as const;

export interface HookResult {
  readonly probe: ProbeResult;
  readonly facts: readonly string[];
}

const TIMEOUT_MS = 10_000;
/** What an editor or a package manager leaves beside a program is none. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*(?:\.sh)?$/;
const MAX_FACTS = 200;
const MAX_FACT_CHARACTERS = 200;

/** One after the other, in the order of their names. */
export async function runHooks(host: Host, signal?: AbortSignal): Promise<readonly HookResult[]> {
  const results: HookResult[] = [];
  for (const [name, path] of await hooksOf(host)) results.push(await runHook(host, name, path, signal));
  return results;
}

async function hooksOf({ files }: Host): Promise<readonly (readonly [name: string, path: string])[]> {
  const found = new Map<string, string>();
  for (const folder of HOOK_FOLDERS) {
    for (const name of await files.list(folder)) if (NAME.test(name)) found.set(name, `${folder}/${name}`);
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

async function runHook({ files, hooks }: Host, name: string, path: string, signal?: AbortSignal): Promise<HookResult> {
  const info = await files.info(path);
  if (!isProgram(info)) return { probe: { name, ok: true, fatal: false, detail: 'switched off' }, facts: [] };
  if ((info.mode & 0o022) !== 0) {
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

const isProgram = (info: FileInfo | null): info is FileInfo => info?.kind === 'file' && (info.mode & 0o111) !== 0;

function judged(name: string, { exitCode, stdout, stderr }: ProcessResult): HookResult {
  const lines = linesOf(stdout);
  if (exitCode === 0) {
    const facts = lines.slice(0, MAX_FACTS).map((line) => `${name}: ${line.slice(0, MAX_FACT_CHARACTERS)}`);
    return { probe: { name, ok: true, fatal: true, detail: 'well' }, facts };
  }
  const said = [...lines, ...linesOf(stderr)].slice(-3).join('; ').slice(0, 500);
  return {
    probe: { name, ok: false, fatal: true, detail: `exit code ${exitCode}: ${said || 'it said nothing'}` },
    facts: [],
  };
}

const linesOf = (text: string): readonly string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
