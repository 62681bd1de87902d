import { constants } from 'node:os';
import { execa, type Options } from 'execa';
import { QxError } from '../errors.ts';
import type { Process, ProcessResult } from '../ports.ts';

/**
 * Nothing of our own environment: NODE_OPTIONS, LD_PRELOAD or a token in it is no business of a child's, and what a program
 * prints must not depend on who started the agent.
 */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C', LC_ALL: 'C', HOME: '/' };
const MAX_OUTPUT_CHARACTERS = 1 << 20;
/** A daemon that a service script started may keep our pipes open for ever. */
const PIPES_AFTER_EXIT_MS = 500;

const OPTIONS = {
  env: ENVIRONMENT,
  extendEnv: false,
  cwd: '/',
  reject: false,
  stripFinalNewline: false,
  maxBuffer: MAX_OUTPUT_CHARACTERS,
  // Its own process group, so that what it has started can be killed with it.
  detached: true,
} as const satisfies Options;

type RunOptions = Parameters<Process['run']>[1];

export const hostProcess = (): Process => ({ run });

async function run(argv: readonly [string, ...string[]], options: RunOptions): Promise<ProcessResult> {
  const [program, ...args] = argv;
  if (options.signal?.aborted) throw new QxError('CANCELLED', `${program} was cancelled`);
  const input = options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input };
  const child = execa(program, args, { ...OPTIONS, ...input });

  const ended: { by: 'itself' | 'timeout' | 'signal' } = { by: 'itself' };
  const end = (by: 'timeout' | 'signal') => () => {
    ended.by = by;
    killGroup(child.pid);
  };
  const timer = setTimeout(end('timeout'), options.timeoutMs);
  const cancel = end('signal');
  options.signal?.addEventListener('abort', cancel);
  child.nodeChildProcess.once('exit', () =>
    setTimeout(() => [child.stdout, child.stderr].map((pipe) => pipe.destroy()), PIPES_AFTER_EXIT_MS).unref(),
  );
  try {
    const result = await child;
    if (ended.by === 'timeout') throw new QxError('IO', `${program} did not end within ${options.timeoutMs} ms`);
    if (ended.by === 'signal') throw new QxError('CANCELLED', `${program} was cancelled`);
    if (result.isMaxBuffer) {
      killGroup(child.pid);
      throw new QxError('IO', `${program} printed more than ${MAX_OUTPUT_CHARACTERS} characters`);
    }
    const exitCode = result.exitCode ?? (result.signal === undefined ? null : 128 + constants.signals[result.signal]);
    if (exitCode === null) throw new QxError('IO', `${program} could not be run`, { cause: result.cause });
    return { exitCode, stdout: result.stdout, stderr: result.stderr };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', cancel);
  }
}

export function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself in the meantime.
  }
}
