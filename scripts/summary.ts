import { readFile } from 'node:fs/promises';
import { type Counts, countTests, type Report } from './summary/count.ts';

/** What vitest left behind; a run that died before it could write is one failure. */
async function readReport(path: string): Promise<Report> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return { success: false, testResults: [] };
  }
}

const counts = await Promise.all(process.argv.slice(2).map(async (path) => countTests(await readReport(path))));
const sum = (which: keyof Counts): number => counts.reduce((total, each) => total + each[which], 0);
const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
if (failed > 0) process.exitCode = 1;
