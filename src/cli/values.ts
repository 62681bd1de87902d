import { InvalidArgumentError } from 'commander';
import { durationMs } from '../format/config.ts';
import { isVersion } from '../format/version.ts';

/** Of an option such as --version: a mistake is a usage error before anything is done. */
export function asVersion(text: string): string {
  if (isVersion(text)) return text;
  throw new InvalidArgumentError('Not a version such as 1.4.2 or 1.5.0-rc.1.');
}

export function asDurationMs(text: string): number {
  try {
    return durationMs(text);
  } catch {
    throw new InvalidArgumentError('Not a duration such as 12h or 90d.');
  }
}

/** Why a person did what only a person may. */
export function asReason(text: string): string {
  if (text.trim() !== '') return text;
  throw new InvalidArgumentError('It has to say why, for whoever reads the audit log.');
}
