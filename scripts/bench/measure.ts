import { execa } from 'execa';
import { median } from './row.ts';

export interface Sample {
  readonly cpuMs: number;
  readonly wallMs: number;
}

export interface Comparison {
  readonly ours: Sample;
  readonly baseline: Sample;
  readonly cpuRatio: number;
  readonly wallRatio: number;
  readonly pairs: number;
}

/** Node does not tell what a child used and /proc counts in hundredths of a second; bash asks wait4 and prints all of it. */
export async function timed(script: string, ...args: readonly string[]): Promise<Sample & { readonly stdout: string }> {
  const timing = `TIMEFORMAT='%3U %3S %3R'; time { ${script}; }`;
  const { stderr, stdout } = await execa('bash', ['-c', timing, 'bench', ...args], { env: { LC_ALL: 'C' } });
  const [user = 0, system = 0, wall = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { cpuMs: (user + system) * 1000, wallMs: wall * 1000, stdout };
}

export interface Pair<T> {
  readonly ours: T;
  readonly baseline: T;
}

/**
 * Does two things in turn and pairs each run with its neighbour: what else the machine does changes from second to second, and
 * hits both alike. Which goes first alternates.
 */
export async function alternately<T>(
  ours: () => Promise<T>,
  baseline: () => Promise<T>,
  pairs: number,
): Promise<readonly Pair<T>[]> {
  const samples: Pair<T>[] = [];
  for (let i = -1; i < pairs; i++) {
    const first = await (i % 2 === 0 ? ours : baseline)();
    const second = await (i % 2 === 0 ? baseline : ours)();
    // The first pair only warms the page cache.
    if (i >= 0) samples.push(i % 2 === 0 ? { ours: first, baseline: second } : { ours: second, baseline: first });
  }
  return samples;
}

export async function compare(
  ours: () => Promise<Sample>,
  baseline: () => Promise<Sample>,
  pairs: number,
): Promise<Comparison> {
  const samples = await alternately(ours, baseline, pairs);
  const medianOf = (pick: (pair: Pair<Sample>) => number) => median(samples.map(pick));
  return {
    ours: { cpuMs: medianOf((s) => s.ours.cpuMs), wallMs: medianOf((s) => s.ours.wallMs) },
    baseline: { cpuMs: medianOf((s) => s.baseline.cpuMs), wallMs: medianOf((s) => s.baseline.wallMs) },
    cpuRatio: medianOf((s) => s.ours.cpuMs / s.baseline.cpuMs),
    wallRatio: medianOf((s) => s.ours.wallMs / s.baseline.wallMs),
    pairs,
  };
}

/** For people: both sides and their ratios. */
export const detailOf = ({
  ours,
  baseline,
  cpuRatio,
  wallRatio,
  pairs,
}: Comparison): Record<string, string | number> => ({
  'wall ms': `${ours.wallMs.toFixed(0)} / ${baseline.wallMs.toFixed(0)}`,
  'wall ratio': Number(wallRatio.toFixed(3)),
  'cpu ms': `${ours.cpuMs.toFixed(0)} / ${baseline.cpuMs.toFixed(0)}`,
  'cpu ratio': Number(cpuRatio.toFixed(3)),
  pairs,
});
