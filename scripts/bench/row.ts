import type { Yard } from './yard.ts';

/** One measured figure and what it may be at most. */
export interface Row {
  readonly name: string;
  /** As the README says it. */
  readonly title: string;
  readonly unit: 'x' | 'MB' | 'bytes';
  readonly goal: number;
  measure(bench: Bench): Promise<Measured>;
}

export interface Measured {
  readonly value: number;
  /** How it came about: what is printed beside it and kept in the report. */
  readonly detail: Readonly<Record<string, string | number>>;
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
