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

/** The README with the second column of each row that was measured written anew. @throws when it has no such row */
export function withFigures(readme: string, results: readonly Result[]): string {
  return results.reduce((text, { title, unit, value, goal }) => {
    const row = text.split('\n').find((line) => line.startsWith(`| ${title} |`));
    if (row === undefined) throw new Error(`README.md has no row "${title}"`);
    return text.replace(row, () => `| ${title} | ${figure(value, unit)} | at most ${figure(goal, unit)} |`);
  }, readme);
}
