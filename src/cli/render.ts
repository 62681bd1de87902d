/**
 * What the command line tools print: tables and a progress bar for people, JSON with a versioned schema for programs. The
 * stream is an argument, and nothing here knows the time.
 */

export interface Stream {
  write(text: string): unknown;
  /** False once whoever read it has gone. */
  readonly writable?: boolean | undefined;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Names and messages that came over the network or out of a file must not steer the terminal, nor turn text around. */
export const printable = (text: string): string =>
  text.replace(/(?!\n)[\p{Cc}\u{202a}-\u{202e}\u{2066}-\u{2069}]/gu, '\u{fffd}');

/** Columns as wide as their widest cell, two spaces apart; the last one is never padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>((sofar, row) => row.map((cell, i) => Math.max(sofar[i] ?? 0, cell.length)), []);
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('  ');
  return rows.map((row) => `${printable(line(row)).trimEnd()}\n`).join('');
}

/** One document on one line. The schema's name ends in its version: `qx-release.pack/1`. */
export const jsonLine = (schema: string, fields: object): string => `${JSON.stringify({ schema, ...fields })}\n`;

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

export function formatBytes(sizeBytes: number): string {
  const exponent = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, sizeBytes)) / 10)));
  const value = sizeBytes / 1024 ** exponent;
  return `${exponent === 0 ? value : value.toFixed(1)} ${UNITS[exponent]}`;
}

export interface Progress {
  readonly label: string;
  readonly done: number;
  readonly total: number;
}

export interface ProgressReporter {
  report(progress: Progress): void;
  /** Leaves the bar as it stands and ends its line. */
  end(): void;
}

const percentOf = ({ done, total }: Progress): number =>
  total <= 0 ? 0 : Math.min(100, Math.floor((done / total) * 100));

/** A log wants to know that it goes on, and how fast; not a hundred lines of it. */
const LINE_STEP_PERCENT = 10;

/** A bar on a terminal, moved at each whole percent; otherwise JSON lines, one for each tenth, however often it is told. */
export function progressReporter(stream: Stream, schema: string, options: { json?: boolean } = {}): ProgressReporter {
  const isBar = stream.isTTY === true && options.json !== true;
  const last = { line: '', label: '', step: -1 };
  const report = (progress: Progress): void => {
    const percent = percentOf(progress);
    const step = isBar ? percent : Math.floor(percent / LINE_STEP_PERCENT);
    if (progress.label === last.label && step === last.step) return;
    Object.assign(last, { label: progress.label, step });
    if (!isBar) {
      stream.write(jsonLine(schema, { ...progress, percent }));
      return;
    }
    // A serial console says 0.
    const line = bar(progress, percent, stream.columns || 80);
    // A shorter line has to cover the rest of a longer one.
    stream.write(`\r${line.padEnd(last.line.length)}`);
    last.line = line;
  };
  const end = (): void => {
    if (isBar && last.line !== '') stream.write('\n');
    last.line = '';
  };
  return { report, end };
}

function bar(progress: Progress, percent: number, columns: number): string {
  if (progress.total <= 0) return printable(progress.label).slice(0, Math.max(1, columns - 1));
  const amounts = `${formatBytes(progress.done)} of ${formatBytes(progress.total)}`;
  const head = `${printable(progress.label)} `;
  const tail = ` ${String(percent).padStart(3)} %  ${amounts}`;
  // A line as wide as the terminal would wrap, and a carriage return then only reaches its last row.
  const width = Math.min(30, columns - head.length - tail.length - 3);
  if (width < 5) return `${head}${percent} %`.slice(0, Math.max(1, columns - 1));
  const filled = Math.floor((width * percent) / 100);
  return `${head}[${'#'.repeat(filled)}${'.'.repeat(width - filled)}]${tail}`;
}
