import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { execa } from 'execa';

/** What the person in front of the demo sees. */

const isTerminal = process.stdout.isTTY === true;
const style = (code: string, text: string): string => (isTerminal ? `\u001b[${code}m${text}\u001b[0m` : text);

export const chapter = (title: string): void => say(`\n${style('1;36', `== ${title}`)}`);
export const say = (text: string): void => void process.stdout.write(`${text}\n`);
export const command = (text: string): void => say(style('2', `$ ${text}`));

/** A claim that the demo has just tested. It ends here when it does not hold. */
export function proven(claim: string, holds: boolean): void {
  say(`${holds ? style('32', '[ok]') : style('31', '[FAILED]')} ${claim}`);
  if (!holds) throw new Error(`this does not hold: ${claim}`);
}

export interface Outcome {
  readonly exitCode: number;
  readonly output: string;
}

/** Shows the command line and runs it with its output on ours. */
export async function shown(
  file: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv } = {},
): Promise<void> {
  command([file, ...args].join(' '));
  await execa(file, args, { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit', ...options });
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  return hash.digest('hex');
}
