import { InvalidArgumentError } from 'commander';
import { AUDIT_SUBJECT_PATTERN } from '../../format/audit-routes.ts';
import { NAME_PATTERN } from '../../format/schema.ts';

/** Values of options: checked while the command line is read, so that a mistake is a usage error before anything is done. */

const NAME = new RegExp(NAME_PATTERN);

export function asName(text: string): string {
  if (NAME.test(text)) return text;
  throw new InvalidArgumentError('Not a name: lower-case letters, digits and ._- after the first.');
}

/** Given again for each label. */
export function asLabel(text: string, before: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const [, label = '', value = ''] = /^([^=]*)=(.*)$/.exec(text) ?? [];
  if (!NAME.test(label) || !NAME.test(value)) throw new InvalidArgumentError('Not like rack=r1.');
  if (Object.hasOwn(before, label)) throw new InvalidArgumentError(`There is a label ${label} already.`);
  return { ...before, [label]: value };
}

export function asFingerprint(text: string): string {
  const hex = text.replaceAll(':', '').toLowerCase();
  if (/^[a-f0-9]{64}$/.test(hex)) return hex;
  throw new InvalidArgumentError('Not a SHA-256: 64 hexadecimal digits.');
}

const SUBJECT = new RegExp(AUDIT_SUBJECT_PATTERN);

export function asSubject(text: string): string {
  if (SUBJECT.test(text)) return text;
  throw new InvalidArgumentError('Not like qhci-01, operator:alice or budget.');
}

export const asCount =
  (most: number) =>
  (text: string): number => {
    if (/^[1-9][0-9]{0,7}$/.test(text) && Number(text) <= most) return Number(text);
    throw new InvalidArgumentError(`Not a whole number from 1 to ${most}.`);
  };
