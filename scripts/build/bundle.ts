import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import type { BuildOptions, Metafile } from 'esbuild';
import { build, version as esbuildVersion } from 'esbuild';
import { programsApart, programsEntry, programsName, wrapper } from './programs-apart.ts';

export const bundlePaths = { start: 'dist/main.cjs', programs: `dist/${programsName}` } as const;
const stampPath = 'dist/cache/bundle.json';

/** What a bundle says of itself. */
export interface Identity {
  readonly version: string;
  /** The clock of a host is never believed to be earlier than this. */
  readonly buildDateMs: number;
}

const common = ({ version, buildDateMs }: Identity) =>
  ({
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node26',
    // Names stay: a stack trace from a customer's host must say which function failed.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    define: { QX_VERSION: JSON.stringify(version), QX_BUILD_DATE_MS: String(buildDateMs) },
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
export async function bundleBoth(identity: Identity, write: boolean): Promise<{ start: Metafile; programs: Metafile }> {
  const moved = new Set<string>();
  const start = await build({
    ...common(identity),
    entryPoints: ['src/main.ts'],
    outfile: bundlePaths.start,
    plugins: [programsApart(moved)],
    write,
  });
  const programs = await build({
    ...common(identity),
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

async function hashOf(identity: Identity, inputs: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([common(identity), esbuildVersion, inputs]));
  for (const path of ['package-lock.json', 'scripts/build/bundle.ts', 'scripts/build/programs-apart.ts', ...inputs]) {
    const bytes = await readFile(path);
    hash.update(`${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}

async function isFresh(identity: Identity): Promise<boolean> {
  try {
    for (const path of Object.values(bundlePaths)) await readFile(path);
    const { inputs, hash }: Stamp = JSON.parse(await readFile(stampPath, 'utf8'));
    return hash === (await hashOf(identity, inputs));
  } catch {
    // Whatever is missing or unreadable, bundling again makes it.
    return false;
  }
}

/** Bundles the programs, unless the bundles that are there were made from the same input. */
export async function bundle(identity: Identity): Promise<'bundled' | 'reused'> {
  if (await isFresh(identity)) return 'reused';
  const { start, programs } = await bundleBoth(identity, true);
  const read = [...Object.keys(start.inputs), ...Object.keys(programs.inputs)].filter((path) => !isMadeUp(path));
  const inputs = [...new Set(read)].sort();
  const stamp: Stamp = { inputs, hash: await hashOf(identity, inputs) };
  await writeFile(stampPath, JSON.stringify(stamp));
  return 'bundled';
}
