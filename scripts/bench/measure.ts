import { execa } from 'execa';

interface Sample {
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

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new Error('no values, no median');
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** Node does not tell what a child used and /proc counts in hundredths of a second; bash asks wait4 and prints all of it. */
async function runOnce(command: readonly string[]): Promise<Sample> {
  const script = 'TIMEFORMAT="%3U %3S %3R"; time "$@" >/dev/null';
  const { stderr } = await execa('bash', ['-c', script, 'bench', ...command], { env: { LC_ALL: 'C' } });
  const [user = 0, system = 0, wall = 0] = stderr.trim().split(' ').map(Number);
  return { cpuMs: (user + system) * 1000, wallMs: wall * 1000 };
}

/**
 * Runs two commands in turn and compares each run with its neighbour: what else the machine does changes from second to
 * second, and hits both alike. Which goes first alternates.
 */
export async function compare(
  ours: readonly string[],
  baseline: readonly string[],
  pairs: number,
): Promise<Comparison> {
  const samples: { ours: Sample; baseline: Sample }[] = [];
  for (let i = -1; i < pairs; i++) {
    const first = await runOnce(i % 2 === 0 ? ours : baseline);
    const second = await runOnce(i % 2 === 0 ? baseline : ours);
    // The first pair only warms the page cache.
    if (i >= 0) samples.push(i % 2 === 0 ? { ours: first, baseline: second } : { ours: second, baseline: first });
  }
  const medianOf = (pick: (pair: { ours: Sample; baseline: Sample }) => number) => median(samples.map(pick));
  return {
    ours: { cpuMs: medianOf((s) => s.ours.cpuMs), wallMs: medianOf((s) => s.ours.wallMs) },
    baseline: { cpuMs: medianOf((s) => s.baseline.cpuMs), wallMs: medianOf((s) => s.baseline.wallMs) },
    cpuRatio: medianOf((s) => s.ours.cpuMs / s.baseline.cpuMs),
    wallRatio: medianOf((s) => s.ours.wallMs / s.baseline.wallMs),
    pairs,
  };
}
