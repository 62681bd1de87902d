import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { loadCorpus, nameOf, saveCorpus } from '../test/fuzz/corpus.ts';
import { attempt, type Target } from '../test/fuzz/target.ts';
import { targets } from '../test/fuzz/targets.ts';
import { hunt } from './fuzz/hunt.ts';

/** Looks for inputs that a decoder does not stand. Each target has a process of its own; what kills or stops that is found too. */

const HELP = `Hunts for inputs that a decoder does not stand, and keeps in test/fuzz/corpus what led to something new.

  --minutes N     for each target (default 1)
  --target NAME   only this one: ${targets.map(({ name }) => name).join(', ')}
  --seed N        to repeat a hunt
  --input FILE    tries this one input instead of hunting, such as a .crash file in dist/fuzz
`;

const FOLDER = 'dist/fuzz';
const HEAP_MIB = 512;
const GRACE_MS = 300_000;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const runningPath = ({ name }: Target): string => join(FOLDER, `${name}.running`);

interface Settings {
  readonly minutes: string;
  readonly seed: string;
}

async function supervise(target: Target, { minutes, seed }: Settings): Promise<boolean> {
  const args = ['scripts/fuzz.ts', '--alone', '--target', target.name, '--minutes', minutes, '--seed', seed];
  const { exitCode, signal, timedOut } = await execa(process.execPath, [`--max-old-space-size=${HEAP_MIB}`, ...args], {
    stdio: 'inherit',
    reject: false,
    timeout: Number(minutes) * 60_000 + GRACE_MS,
    killSignal: 'SIGKILL',
  });
  if (exitCode === 0 || exitCode === 1) return exitCode === 0;
  const path = join(FOLDER, `${target.name}-died.crash`);
  await copyFile(runningPath(target), path);
  say(`${target.name}: ${timedOut ? 'no end' : `died (${signal ?? exitCode})`}`);
  sayHow(target, path);
  return false;
}

const sayHow = ({ name }: Target, path: string): void => say(`  npm run fuzz -- --target ${name} --input ${path}`);

async function alone(target: Target, { minutes, seed }: Settings): Promise<boolean> {
  const report = await hunt(target, {
    corpus: await loadCorpus(target.name),
    durationMs: Number(minutes) * 60_000,
    seed: Number(seed),
    runningPath: runningPath(target),
  });
  await saveCorpus(target.name, report.corpus);
  const { executions, corpus, found, reasons, coveredCharacters, slowestMs, growthMib, crashes } = report;
  say(
    `${target.name}: ${executions} executions, corpus of ${corpus.length} (${found} new), ${coveredCharacters} characters ` +
      `and ${reasons} reasons covered, slowest ${slowestMs.toFixed(1)} ms, memory grew ${growthMib} MiB`,
  );
  for (const { reason, input } of crashes) {
    const path = join(FOLDER, `${target.name}-${nameOf(input)}.crash`);
    await writeFile(path, input);
    say(`${target.name}: ${reason}`);
    sayHow(target, path);
  }
  return crashes.length === 0;
}

async function again(target: Target, path: string): Promise<boolean> {
  const running = await target.start();
  try {
    const { refusal, cpuMs } = await attempt(target, running, await readFile(path));
    say(`${refusal === null ? 'accepted' : `refused: ${refusal.code} ${refusal.message}`} (${cpuMs.toFixed(1)} ms)`);
    return true;
  } finally {
    await running.close?.();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '1' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      target: { type: 'string' },
      input: { type: 'string' },
      alone: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const chosen = targets.filter(({ name }) => values.target === undefined || name === values.target);
  const [first] = chosen;
  if (first === undefined) throw new Error(`targets are ${targets.map(({ name }) => name).join(', ')}`);
  await mkdir(FOLDER, { recursive: true });
  const hold = async (): Promise<boolean> => {
    if (values.input !== undefined) return again(first, values.input);
    if (values.alone) return alone(first, values);
    const verdicts: boolean[] = [];
    for (const target of chosen) verdicts.push(await supervise(target, values));
    return verdicts.every(Boolean);
  };
  if (!(await hold())) process.exitCode = 1;
}

await main();
