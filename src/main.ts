import { basename } from 'node:path';
import { getAsset, isSea } from 'node:sea';

type Program = (args: readonly string[]) => Promise<number>;

/** Each program is imported only when it is the one called: five programs share this executable, one pays for its own code. */
const programs: Readonly<Record<string, () => Promise<Program>>> = {
  'qx-node': async () => (await import('./cli/serve.ts')).agentMain,
  'qx-update-server': async () => (await import('./cli/serve-releases.ts')).serverMain,
  'qx-update': async () => (await import('./cli/host.ts')).main,
  'qx-release': async () => (await import('./cli/release.ts')).main,
  'qx-fleet': async () => (await import('./cli/fleet.ts')).main,
};

/**
 * Not for users: the agent's own child (system/isolated-http.ts). Named by the first argument under whatever name it is
 * called, because what drops its rights on the way starts it by its path.
 */
const hidden: typeof programs = {
  'qx-fetch': async () => (await import('./cli/fetch.ts')).main,
};

const usageExitCode = 2;

/** esbuild replaces this by package.json's version; run from source it stays unset. */
declare const QX_VERSION: string | undefined;

function versionLine(name: string): string {
  const version = typeof QX_VERSION === 'string' ? QX_VERSION : '0.0.0-source';
  const keyring: { kind?: string } = isSea() ? JSON.parse(getAsset('keyring.json', 'utf8')) : { kind: 'none' };
  return `${name} ${version} (keyring: ${keyring.kind})\n`;
}

/** The name it was called by picks the program; under any other name (node, a backup copy) the first argument does. */
function pick(calledBy: string, args: readonly string[]): { name: string; args: readonly string[] } {
  if (Object.hasOwn(programs, calledBy)) return { name: calledBy, args };
  return { name: args[0] ?? '', args: args.slice(1) };
}

async function run(calledBy: string, argv: readonly string[]): Promise<number> {
  const [first = ''] = argv;
  if (Object.hasOwn(hidden, first)) return (await hidden[first]?.())?.([]) ?? usageExitCode;
  const { name, args } = pick(calledBy, argv);
  const load = Object.hasOwn(programs, name) ? programs[name] : undefined;
  if (!load) {
    process.stderr.write(`usage: PROGRAM [ARGUMENTS], PROGRAM one of ${Object.keys(programs).join(' ')}\n`);
    return usageExitCode;
  }
  if (args.length === 1 && args[0] === '--version') {
    process.stdout.write(versionLine(name));
    return 0;
  }
  const program = await load();
  return program(args);
}

async function fail(error: unknown): Promise<number> {
  const { exitCode, explain } = await import('./errors.ts');
  process.stderr.write(`${explain(error)}\n`);
  return exitCode(error);
}

// `qx-update apply | head -1` and `2>&1 | head -1` close our output early. That must neither fail the program nor stop it half way.
for (const output of [process.stdout, process.stderr]) {
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

run(basename(process.argv0), process.argv.slice(2))
  .catch(fail)
  .then((code) => {
    process.exitCode = code;
  });
