import { relative } from 'node:path';

/** The part of vitest's JSON report that is read here; times in milliseconds since 1970. */
export interface TimedReport {
  readonly testResults: readonly { readonly name: string; readonly startTime: number; readonly endTime: number }[];
}

/** A line each for the files that took longest, from first to last test, the longest first. */
export function slowestFiles({ testResults }: TimedReport, count: number, folder: string): readonly string[] {
  return testResults
    .map(({ name, startTime, endTime }) => ({ name, tookMs: endTime - startTime }))
    .sort((a, b) => b.tookMs - a.tookMs)
    .slice(0, count)
    .map(({ name, tookMs }) => `${(tookMs / 1000).toFixed(1).padStart(7)} s  ${relative(folder, name)}`);
}
