import { compare, parse } from 'semver';
import { QxError } from '../errors.ts';

/**
 * Release versions: semantic versions without a leading `v`, at most 64 characters. Build metadata is carried but never
 * decides anything. A version is also the name of a folder, so nothing that could leave the folder can be one.
 */

const PART = '(?:0|[1-9][0-9]{0,8})';
// Up to 15 digits, so that two different numbers are never rounded into one.
const PRERELEASE = '(?:0|[1-9][0-9]{0,14}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)';

/** For JSON Schema: one definition for the reader and for whoever checks a manifest with another tool. */
export const VERSION_PATTERN = `^${PART}\\.${PART}\\.${PART}(?:-${PRERELEASE}(?:\\.${PRERELEASE})*)?(?:\\+[0-9a-zA-Z-]+(?:\\.[0-9a-zA-Z-]+)*)?$`;
export const VERSION_MAX_LENGTH = 64;

const GRAMMAR = new RegExp(VERSION_PATTERN);

export const isVersion = (text: string): boolean =>
  text.length <= VERSION_MAX_LENGTH && !text.endsWith('\n') && GRAMMAR.test(text) && parse(text) !== null;

/** @throws QxError VERSION_INVALID */
export function checkVersion(text: string): string {
  if (isVersion(text)) return text;
  throw new QxError(
    'VERSION_INVALID',
    `${JSON.stringify(text.slice(0, 80))} is not a version such as 1.4.2 or 1.5.0-rc.1`,
  );
}

/** Negative when `a` is older than `b`; 0 when they differ at most in build metadata. */
export const compareVersions = (a: string, b: string): number => compare(checkVersion(a), checkVersion(b));

export const isNewer = (candidate: string, installed: string): boolean => compareVersions(candidate, installed) > 0;

/** What a system says of itself, in /etc/quantix-version or else in /etc/quantix-release; null when it says nothing. */
export function versionSaid(plain: string, release: string): string | null {
  const said = plain.trim();
  if (isVersion(said)) return said;
  const named = /^(?:QUANTIX_)?VERSION="?([^"\n]+)"?$/m.exec(release)?.[1] ?? '';
  return isVersion(named) ? named : null;
}
