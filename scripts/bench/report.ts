import type { Measured, Row } from './row.ts';

export type Result = Pick<Row, 'name' | 'title' | 'unit' | 'goal'> & Measured;

export const isMet = ({ value, goal }: Result): boolean => value <= goal;

const figure = (value: number, unit: Row['unit']): string =>
  unit === 'x' ? `${value.toFixed(2)}x` : `${value.toFixed(0)} ${unit}`;

/** A few lines for each row, as soon as it is measured. */
export function print(result: Result): void {
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
  for (const { title, unit, value, goal } of results) {
    rows.set(`| ${title}`, `| ${title} | ${figure(value, unit)} | at most ${figure(goal, unit)} |`);
  }
  return readme.slice(0, start) + [...rows.values()].join('\n') + readme.slice(end);
}
