import { constants } from 'node:os';
import { execa } from 'execa';
import { QxError } from '../errors.ts';
import type { ProcessResult } from '../ports.ts';

const MAX_OUTPUT_CHARACTERS = 1 << 16;
const SECRETS = ['QX_TOKEN', 'PUBLISH_TOKEN'];

/**
 * Runs a program of the operator's, such as the client of a key vault: in the operator's own folder, environment and
 * terminal, because that is where its address, its login and the question for a PIN are. Our publish token is not among it.
 */
export async function runForOperator(
  argv: readonly [string, ...string[]],
  options: { input: Uint8Array; timeoutMs: number },
): Promise<ProcessResult> {
  const [program, ...args] = argv;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !SECRETS.includes(name)));
  const result = await execa(program, args, {
    env,
    extendEnv: false,
    input: options.input,
    // Shown while it runs ("touch the token") and kept for the message when it fails.
    stderr: ['inherit', 'pipe'],
    timeout: options.timeoutMs,
    maxBuffer: MAX_OUTPUT_CHARACTERS,
    reject: false,
  });
  if (result.timedOut) throw new QxError('IO', `${program} did not end within ${options.timeoutMs / 1000} s`);
  const exitCode = result.exitCode ?? (result.signal === undefined ? null : 128 + constants.signals[result.signal]);
  if (exitCode === null) throw new QxError('IO', `${program} could not be run`, { cause: result.cause });
  return { exitCode, stdout: result.stdout, stderr: result.stderr };
}
