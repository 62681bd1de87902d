import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, posix } from 'node:path';
import { execa } from 'execa';
import { isNamesake, type Mentions, nearestThatFit, stepsFrom } from './changed/nearest.ts';
import type { TimedReport } from './summary/slowest.ts';

/**
 * A minute of tests: those nearest to what is changed in the working tree, or since a commit (`npm run test:changed -- REF`).
 * How long each takes is what the last whole run on this machine says; before there was one, a guess.
 */

const RESULTS = 'dist/test-results.json';
const GUESS_MS = 10_000;
/** A minute, less the build and the start of vitest, in each of its four workers. */
const TOTAL_MS = 4 * 40_000;
/** The start of a test file, which is not in its time. */
const START_MS = 1_000;
/** It reads all sources and imports none. */
const ALWAYS = ['test/architecture.test.ts'];

async function changedFiles(since: string): Promise<string[]> {
  const diff = await execa('git', ['diff', '--name-only', '--diff-filter=d', since], { lines: true });
  const added = await execa('git', ['ls-files', '--others', '--exclude-standard'], { lines: true });
  return [...diff.stdout, ...added.stdout];
}

const IMPORTED = /(?:from|import) \(?'(\.[^']+)'/g;

/** What is no TypeScript is mentioned by whoever has its name in it. */
async function readMentions(changed: readonly string[]): Promise<Mentions> {
  const others = changed.filter((file) => !file.endsWith('.ts'));
  const files = globSync('{src,test,scripts}/**/*.ts');
  const mentioned = async (file: string): Promise<[string, string[]]> => {
    const text = await readFile(file, 'utf8');
    const imported = [...text.matchAll(IMPORTED)].map(([, module = '']) => posix.join(posix.dirname(file), module));
    return [file, [...imported, ...others.filter((other) => text.includes(basename(other)))]];
  };
  return new Map(await Promise.all(files.map(mentioned)));
}

async function readTimes(): Promise<ReadonlyMap<string, number>> {
  const text = await readFile(RESULTS, 'utf8').catch(() => null);
  if (text === null) {
    process.stdout.write(`how long each test takes is guessed: ./scripts/test.sh has not run here (${RESULTS})\n`);
    return new Map();
  }
  const { testResults }: TimedReport = JSON.parse(text);
  return new Map(testResults.map(({ name, startTime, endTime }) => [posix.relative('.', name), endTime - startTime]));
}

const changed = await changedFiles(process.argv[2] ?? 'HEAD');
const steps = stepsFrom(changed, await readMentions(changed));
const times = await readTimes();
const tests = globSync('test/**/*.test.ts', { exclude: ['test/vm/**'] }).flatMap((file) => {
  const step = ALWAYS.includes(file) ? 0 : steps.get(file);
  const tookMs = START_MS + (times.get(file) ?? GUESS_MS);
  return step === undefined ? [] : [{ file, steps: step, isNamesake: isNamesake(file, changed), tookMs }];
});
const { chosen, left } = nearestThatFit(tests, TOTAL_MS);
process.stdout.write(`${changed.length} changed files, the nearest ${chosen.length} of ${tests.length} test files\n`);
const { exitCode } = await execa({ stdio: 'inherit', reject: false })`vitest run ${chosen}`;
if (left.length > 0) process.stdout.write(`left to ./scripts/test.sh: ${left.join(' ')}\n`);
process.exitCode = exitCode ?? 1;
