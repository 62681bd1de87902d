import type { Yard } from './yard.ts';

/** One measured figure and what it may be at most. */
export interface Row {
  readonly name: string;
  /** As the README says it. */
  readonly title: string;
  readonly unit: 'x' | 'MB' | 'bytes' | 'ms';
  readonly goal: number;
  measure(bench: Bench): Promise<Measured | Unmeasured>;
}

export interface Measured {
  readonly value: number;
  /** The same for people, where a ratio alone does not tell it. */
  readonly inWords?: string;
  /** How it came about: what is printed beside it and kept in the report. */
  readonly detail: Readonly<Record<string, string | number>>;
}

/** What this machine lacks. Nothing is met or missed then, and the README keeps what it says. */
export interface Unmeasured {
  readonly needs: string;
}

export interface Bench {
  /** An existing folder that goes away afterwards. */
  readonly folder: string;
  readonly pairs: number | null;
  readonly imageMb: number;
  /** Keys and a server, opened when first asked for. */
  yard(): Promise<Yard>;
}

export const MB = 1_000_000;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new Error('no values, no median');
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** `share` from 0 to 1: the value that so many are not above. */
export function percentile(values: readonly number[], share: number): number {
  const value = values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)];
  if (value === undefined) throw new Error('no values, no percentile');
  return value;
}
