import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import type { BuildOptions, Metafile } from 'esbuild';
import { build, version as esbuildVersion } from 'esbuild';
import { programsApart, programsEntry, programsName, wrapper } from './programs-apart.ts';

export const bundlePaths = { start: 'dist/main.cjs', programs: `dist/${programsName}` } as const;
const stampPath = 'dist/cache/bundle.json';

const common = (version: string) =>
  ({
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node26',
    // Names stay: a stack trace from a customer's host must say which function failed.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    define: { QX_VERSION: JSON.stringify(version) },
    metafile: true,
    // A bundle has no import.meta.url: code that reads it would break on the host only.
    logOverride: { 'empty-import-meta': 'error' },
    logLevel: 'warning',
  }) as const satisfies BuildOptions;

interface Stamp {
  /** Every file that esbuild read. */
  readonly inputs: readonly string[];
  /** Hash of settings, tools and inputs. */
  readonly hash: string;
}

/** Bundles main.ts, and apart from it what main.ts imports lazily. Returns what went into each. */
export async function bundleBoth(version: string, write: boolean): Promise<{ start: Metafile; programs: Metafile }> {
  const moved = new Set<string>();
  const start = await build({
    ...common(version),
    entryPoints: ['src/main.ts'],
    outfile: bundlePaths.start,
    plugins: [programsApart(moved)],
    write,
  });
  const programs = await build({
    ...common(version),
    ...wrapper,
    stdin: { contents: programsEntry(moved), resolveDir: 'src', sourcefile: 'made-up:programs' },
    // import() needs a loader that the wrapping function lacks; Node's own modules are all that is left to import.
    supported: { 'dynamic-import': false },
    outfile: bundlePaths.programs,
    write,
  });
  return { start: start.metafile, programs: programs.metafile };
}

/** `program:./cli/host.ts`: what exists in the plugin only has a name with a colon. */
const isMadeUp = (input: string): boolean => input.includes(':');

async function hashOf(version: string, inputs: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([common(version), esbuildVersion, inputs]));
  for (const path of ['package-lock.json', 'scripts/build/bundle.ts', 'scripts/build/programs-apart.ts', ...inputs]) {
    const bytes = await readFile(path);
    hash.update(`${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}

async function isFresh(version: string): Promise<boolean> {
  try {
    for (const path of Object.values(bundlePaths)) await readFile(path);
    const { inputs, hash }: Stamp = JSON.parse(await readFile(stampPath, 'utf8'));
    return hash === (await hashOf(version, inputs));
  } catch {
    // Whatever is missing or unreadable, bundling again makes it.
    return false;
  }
}

/** Bundles the programs, unless the bundles that are there were made from the same input. */
export async function bundle(version: string): Promise<'bundled' | 'reused'> {
  if (await isFresh(version)) return 'reused';
  const { start, programs } = await bundleBoth(version, true);
  const read = [...Object.keys(start.inputs), ...Object.keys(programs.inputs)].filter((path) => !isMadeUp(path));
  const inputs = [...new Set(read)].sort();
  const stamp: Stamp = { inputs, hash: await hashOf(version, inputs) };
  await writeFile(stampPath, JSON.stringify(stamp));
  return 'bundled';
}
