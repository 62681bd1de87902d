import { mkdir, readFile, stat } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { exitCode, explain, QxError } from '../src/errors.ts';
import { bundle, bundlePaths } from './build/bundle.ts';
import { buildDateMs } from './build/date.ts';
import { executablePath, makeExecutable, makeHostFolder, readKeyring } from './build/executable.ts';

const usage = `usage: npm run build -- [--keyring FILE] [--host]
  --keyring FILE  bake the public keys in FILE; without it the executable trusts nobody
  --host          also make dist/host: bin/ and rt/, to be copied to /usr/lib/quantix of a host
`;

const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
  const startMs = performance.now();
  const result = await work();
  process.stdout.write(`${what}: ${result ?? 'made'} in ${((performance.now() - startMs) / 1000).toFixed(1)} s\n`);
  return result;
};

async function sizeMb(path: string): Promise<string> {
  return `${((await stat(path)).size / 1e6).toFixed(2)} MB`;
}

function readArguments() {
  try {
    return parseArgs({
      options: { keyring: { type: 'string' }, host: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    }).values;
  } catch (error) {
    throw new QxError('USAGE', `${error instanceof Error ? error.message : error}\n${usage}`);
  }
}

async function main(): Promise<void> {
  const values = readArguments();
  if (values.help) {
    process.stdout.write(usage);
    return;
  }
  // npm runs this in the folder of package.json; every path below is relative to it.
  const { version }: { version: string } = JSON.parse(await readFile('package.json', 'utf8'));
  const keyring = await readKeyring(values.keyring);
  await mkdir('dist/cache', { recursive: true });
  const identity = { version, buildDateMs: await buildDateMs() };
  await timed('bundles', () => bundle(identity));
  await timed(executablePath, () => makeExecutable(keyring));
  if (values.host) await timed('dist/host', makeHostFolder);
  for (const path of [bundlePaths.start, bundlePaths.programs, executablePath]) {
    process.stdout.write(`${path}: ${await sizeMb(path)}\n`);
  }
}

await main().catch((error: unknown) => {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = exitCode(error);
});
