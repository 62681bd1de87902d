import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Comparison, compare } from './bench/measure.ts';

const reportPath = 'dist/bench.json';

interface Row extends Comparison {
  readonly name: string;
  /** What the CPU ratio may be at most. */
  readonly goal: number;
}

/** What the five names cost before they do anything, against Node itself. */
async function startup(folder: string, pairs: number): Promise<Row> {
  const script = join(folder, 'one-line.js');
  await writeFile(script, "console.log('bare');\n");
  const comparison = await compare(['dist/qx-update', '--version'], [process.execPath, script], pairs);
  return { name: 'qx-update --version / bare node', goal: 1.15, ...comparison };
}

function print(rows: readonly Row[]): void {
  const table = rows.map(({ name, goal, ours, baseline, cpuRatio, wallRatio }) => ({
    name,
    'cpu ms': `${ours.cpuMs.toFixed(0)} / ${baseline.cpuMs.toFixed(0)}`,
    'cpu ratio': cpuRatio.toFixed(2),
    'wall ms': `${ours.wallMs.toFixed(0)} / ${baseline.wallMs.toFixed(0)}`,
    'wall ratio': wallRatio.toFixed(2),
    goal: `<= ${goal}`,
    met: cpuRatio <= goal ? 'yes' : 'NO',
  }));
  const columns = Object.keys(table[0] ?? {}) as (keyof (typeof table)[number])[];
  for (const line of [Object.fromEntries(columns.map((column) => [column, column])), ...table]) {
    const cells = columns.map((column) => {
      const width = Math.max(column.length, ...table.map((row) => row[column].length));
      return (line[column] ?? '').padEnd(width);
    });
    process.stdout.write(`${cells.join('  ').trimEnd()}\n`);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { pairs: { type: 'string', default: '31' } } });
  const folder = await mkdtemp(join(tmpdir(), 'bench-'));
  try {
    const rows = [await startup(folder, Number(values.pairs))];
    print(rows);
    await writeFile(reportPath, `${JSON.stringify({ node: process.version, rows }, null, 2)}\n`);
    process.stdout.write(`as JSON: ${reportPath}\n`);
    if (rows.some(({ cpuRatio, goal }) => cpuRatio > goal)) process.exitCode = 1;
  } finally {
    await rm(folder, { recursive: true });
  }
}

await main();
