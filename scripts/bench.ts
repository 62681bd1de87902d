import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkRow } from './bench/check.ts';
import { grantRows } from './bench/grants.ts';
import { idle } from './bench/idle.ts';
import { installRow } from './bench/install.ts';
import { memoryRows } from './bench/memory.ts';
import { isMet, print, type Result, withFigures } from './bench/report.ts';
import type { Bench, Row } from './bench/row.ts';
import { startup } from './bench/startup.ts';
import { openYard, type Yard } from './bench/yard.ts';

const ROWS: readonly Row[] = [startup, installRow, ...memoryRows, idle, checkRow, ...grantRows];
const REPORT = 'dist/bench.json';
const HELP = `Measures the built programs against their goals; exit code 1 when one is missed.

  --only NAME      only this row, repeatable: ${ROWS.map(({ name }) => name).join(', ')}
  --pairs N        runs of each side where two are compared
  --image-mb N     size of the image that is installed (default 600)
  --folder DIR     where images, slots and hosts lie (default: the folder for temporary files)
  --readme         write the figures into the README
`;

const OPTIONS = {
  only: { type: 'string', multiple: true },
  pairs: { type: 'string' },
  'image-mb': { type: 'string', default: '600' },
  folder: { type: 'string', default: tmpdir() },
  readme: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return void process.stdout.write(HELP);
  const unknown = (values.only ?? []).filter((name) => !ROWS.some((row) => row.name === name));
  if (unknown.length > 0) throw new Error(`no row ${unknown.join(', ')}\n${HELP}`);
  const rows = ROWS.filter(({ name }) => values.only?.includes(name) ?? true);
  const folder = await mkdtemp(join(values.folder, 'bench-'));
  const opened: { yard: Yard | null } = { yard: null };
  const bench: Bench = {
    folder,
    pairs: values.pairs === undefined ? null : Number(values.pairs),
    imageMb: Number(values['image-mb']),
    yard: async () => {
      opened.yard ??= await openYard(join(folder, 'yard'));
      return opened.yard;
    },
  };
  try {
    const results: Result[] = [];
    for (const row of rows) {
      const result = { ...row, ...(await row.measure(bench)) };
      print(result);
      results.push(result);
    }
    await report(results, values.readme);
  } finally {
    await opened.yard?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  }
}

async function report(results: readonly Result[], isForReadme: boolean): Promise<void> {
  await writeFile(REPORT, `${JSON.stringify({ node: process.version, results }, null, 2)}\n`);
  process.stdout.write(`as JSON: ${REPORT}\n`);
  if (isForReadme) await writeFile('README.md', withFigures(await readFile('README.md', 'utf8'), results));
  if (!results.every(isMet)) process.exitCode = 1;
}

await main();
