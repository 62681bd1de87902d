import { readFile } from 'node:fs/promises';
import { type Counts, countTests, type Report } from './summary/count.ts';
import { slowestFiles, type TimedReport } from './summary/slowest.ts';

const SLOWEST = 10;

/** What vitest left behind; a run that died before it could write is one failure. */
async function readReport(path: string): Promise<Report & TimedReport> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return { success: false, testResults: [] };
  }
}

const counts: Counts[] = [];
for (const path of process.argv.slice(2)) {
  const report = await readReport(path);
  counts.push(countTests(report));
  process.stdout.write(`\nslowest in ${path}:\n${slowestFiles(report, SLOWEST, process.cwd()).join('\n')}\n`);
}
const sum = (which: keyof Counts): number => counts.reduce((total, each) => total + each[which], 0);
const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped} skipped\n`);
if (failed > 0) process.exitCode = 1;
