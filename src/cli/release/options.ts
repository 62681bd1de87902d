import { InvalidArgumentError, Option } from 'commander';
import { checkDated, outdatedMs } from '../../core/dates.ts';
import { QxError } from '../../errors.ts';
import { CHANNELS, PRODUCTS } from '../../format/manifest.ts';
import type { ReleaseTools } from './tools.ts';

/** Values of options: checked while the command line is read, so that a mistake is a usage error before anything is done. */

export const channelOption = (flags: string, description: string): Option =>
  new Option(flags, description).choices([...CHANNELS]);

export const productOption = (): Option =>
  new Option('--product <name>', 'what the release is for').choices([...PRODUCTS]);

export function asSequence(text: string): number {
  const value = Number(text);
  if (/^[1-9][0-9]*$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError('A sequence is a whole number from 1 on.');
}

/**
 * Refuses a date that lies ahead where it is made and where it is signed, also when it is this machine's clock that lies ahead:
 * by decades it is told from the date that this program was built at. @throws QxError DATED_AHEAD
 */
export function expectDated(
  { clock, buildDateMs }: Pick<ReleaseTools, 'clock' | 'buildDateMs'>,
  release: { readonly release_date: string },
): void {
  const nowMs = clock.nowMs();
  const latestMs = Math.min(nowMs, outdatedMs(buildDateMs));
  checkDated(release, latestMs, latestMs === nowMs ? 'this machine' : 'this program, ten years after it was built,');
}

/**
 * The time that a build is said to have happened at. A reproducible build sets SOURCE_DATE_EPOCH; only dates of documents
 * follow it, never a decision whether something has expired.
 */
export function buildTimeMs(env: Readonly<Record<string, string | undefined>>, nowMs: number): number {
  const epoch = env.SOURCE_DATE_EPOCH;
  if (epoch === undefined || epoch === '') return nowMs;
  if (!/^[0-9]{1,11}$/.test(epoch)) throw new QxError('USAGE', 'SOURCE_DATE_EPOCH has to be a number of seconds');
  return Number(epoch) * 1000;
}
