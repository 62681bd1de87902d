import { stat } from 'node:fs/promises';
import { execa } from 'execa';
import { QxError } from '../../src/errors.ts';

/** When what is built was written, and not when it is built: two builds of one source are the same bytes. */
export async function buildDateMs(): Promise<number> {
  const wish = process.env.SOURCE_DATE_EPOCH;
  if (wish !== undefined) {
    if (/^[0-9]{1,11}$/.test(wish)) return Number(wish) * 1000;
    throw new QxError('USAGE', 'SOURCE_DATE_EPOCH is not a number of seconds since 1970');
  }
  const { stdout, exitCode } = await execa('git', ['log', '-1', '--format=%ct'], { reject: false });
  if (exitCode === 0 && /^[0-9]+$/.test(stdout)) return Number(stdout) * 1000;
  // A source archive: whoever packed it kept the times of its files.
  return Math.floor((await stat('package.json')).mtimeMs / 1000) * 1000;
}
