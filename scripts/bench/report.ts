import type { Measured, Row, Unmeasured } from './row.ts';

type About = Pick<Row, 'name' | 'title' | 'unit' | 'goal'>;
type MeasuredResult = About & Measured;
export type Result = About & (Measured | Unmeasured);

const isMeasured = (result: Result): result is MeasuredResult => 'value' in result;

export const isMet = (result: Result): boolean => !isMeasured(result) || result.value <= result.goal;

const figure = (value: number, unit: Row['unit']): string =>
  unit === 'x' ? `${value.toFixed(2)}x` : `${value.toFixed(0)} ${unit}`;

/** A few lines for each row, as soon as it is measured. */
export function print(result: Result): void {
  if (!isMeasured(result)) {
    process.stdout.write(`${result.name.padEnd(13)} ${'not measured'.padStart(11)}  needs ${result.needs}\n`);
    return;
  }
  const { name, title, unit, value, goal, detail } = result;
  const told = Object.entries(detail).map(([what, is]) => `${what} ${is}`);
  const verdict = isMet(result) ? 'met' : 'MISSED';
  process.stdout.write(
    `${name.padEnd(13)} ${figure(value, unit).padStart(11)}  goal <= ${figure(goal, unit).padEnd(10)} ${verdict}\n` +
      `${' '.repeat(14)}${title.replaceAll('`', '')}\n${' '.repeat(14)}${told.join(', ')}\n`,
  );
}

const TABLE = '| measured (`npm run bench`) | | goal |\n| --- | --- | --- |\n';

/** The README with the figures of the rows that were measured; the others stay as they are. */
export function withFigures(readme: string, results: readonly Result[]): string {
  const start = readme.indexOf(TABLE) + TABLE.length;
  const end = readme.indexOf('\n\n', start);
  if (start < TABLE.length || end < 0) throw new Error('README.md has no table of what was measured');
  const rows = new Map(
    readme
      .slice(start, end)
      .split('\n')
      .map((line) => [line.split(' | ', 1)[0], line]),
  );
  for (const { title, unit, value, inWords, goal } of results.filter(isMeasured)) {
    const told = figure(value, unit) + (inWords === undefined ? '' : ` (${inWords})`);
    rows.set(`| ${title}`, `| ${title} | ${told} | at most ${figure(goal, unit)} |`);
  }
  return readme.slice(0, start) + [...rows.values()].join('\n') + readme.slice(end);
}
