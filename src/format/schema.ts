import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { type Code, QxError } from '../errors.ts';

/** Shapes that several documents share, as JSON Schema fragments. */

export const NAME_PATTERN = '^[a-z0-9][a-z0-9._-]{0,63}$';
export const SHA256_PATTERN = '^[a-f0-9]{64}$';
/** RFC 3339 in UTC, whole seconds or finer. */
export const INSTANT_PATTERN = '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\.[0-9]{1,9})?Z$';

/** Checks the shape and says where it is wrong: `components/0/sha256 must match pattern ...`. @throws QxError `code` */
export function checkShape<T extends TSchema>(schema: T, value: unknown, what: string, code: Code): Static<T> {
  if (Value.Check(schema, value)) return value as Static<T>;
  throw new QxError(code, `${what}: ${firstProblem(schema, value)}`);
}

function firstProblem(schema: TSchema, value: unknown): string {
  // The deepest path is the most telling: an enclosing union only says that none of its members fitted.
  const all = [...Value.Errors(schema, value)];
  // Only the first eight are told, and unknown names come one by one before they come together.
  const [unknown] = all;
  if (all.every((e) => e.keyword === 'boolean') && unknown !== undefined)
    return `${unknown.instancePath.slice(1)} is not a known field`;
  const errors = all.filter((e) => e.keyword !== 'boolean');
  const depth = (path: string) => path.split('/').length;
  const worst = errors.reduce((a, b) => (depth(b.instancePath) > depth(a.instancePath) ? b : a), errors[0] as Problem);
  if (worst === undefined) return 'does not have the expected shape';
  const extra = worst.keyword === 'additionalProperties' ? `: ${unknownNames(worst)}` : '';
  const { allowedValues } = worst.params as { allowedValues?: readonly unknown[] };
  const message = allowedValues === undefined ? worst.message : `must be one of ${allowedValues.join(', ')}`;
  return `${worst.instancePath.slice(1) || 'the document'} ${message}${extra}`;
}

type Problem = { keyword: string; instancePath: string; message: string; params: object };

const unknownNames = (error: Problem): string =>
  ((error.params as { additionalProperties?: readonly string[] }).additionalProperties ?? []).slice(0, 5).join(', ');

/** In UTC and whole seconds: the form of every instant that we write. */
export const instantOf = (ms: number): string => new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');

export const isInstant = (text: string): boolean =>
  new RegExp(INSTANT_PATTERN).test(text) && !Number.isNaN(Date.parse(text)) && isCalendarDate(text);

// Date.parse accepts 31 February and rolls over; a date that prints back differently was never one.
const isCalendarDate = (text: string): boolean => new Date(text).toISOString().slice(0, 10) === text.slice(0, 10);
