import { type Command, InvalidArgumentError, Option } from 'commander';
import { checkDated, isSequenceAhead, outdatedMs } from '../../core/dates.ts';
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

const SEQUENCE_AHEAD_OPTION = '--allow-sequence-ahead';

export const withSequenceAhead = (command: Command): Command =>
  command.option(SEQUENCE_AHEAD_OPTION, 'take a sequence that is above those of releases by their date');

export interface SequenceAhead {
  readonly allowSequenceAhead?: boolean;
}

/**
 * A sequence is the date of the release in seconds, or a counter of one's own. One that is above both by a slip of the finger shuts out
 * every release that follows. @throws QxError SEQUENCE_AHEAD
 */
export function expectSequence(
  { clock }: Pick<ReleaseTools, 'clock'>,
  release: { readonly sequence?: number },
  { allowSequenceAhead = false }: SequenceAhead,
): void {
  const nowMs = clock.nowMs();
  if (allowSequenceAhead || !isSequenceAhead(release, nowMs)) return;
  const now = Math.floor(nowMs / 1000);
  const detail = `sequence ${release.sequence} is far above ${now}, which a release gets of its date now: hosts that have seen it take no normal release any more`;
  const next = `leave --sequence out; where all sequences of this channel are such, ${SEQUENCE_AHEAD_OPTION}`;
  throw new QxError('SEQUENCE_AHEAD', detail, { next });
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
