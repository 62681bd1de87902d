import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import type { BuildOptions, Metafile } from 'esbuild';
import { build, version as esbuildVersion } from 'esbuild';

export const bundlePath = 'dist/main.cjs';
const metafilePath = 'dist/metafile.json';
const stampPath = 'dist/cache/bundle.stamp';

export function bundleOptions(version: string): BuildOptions {
  return {
    entryPoints: ['src/main.ts'],
    outfile: bundlePath,
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
  };
}

/** Says what went into a bundle: settings, tools, and the bytes of every file that esbuild read. */
async function stampOf(version: string, metafile: Metafile): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([bundleOptions(version), esbuildVersion]));
  hash.update(await readFile('package-lock.json'));
  for (const path of Object.keys(metafile.inputs).sort()) {
    hash.update(JSON.stringify(path)).update(
      createHash('sha256')
        .update(await readFile(path))
        .digest(),
    );
  }
  return hash.digest('hex');
}

async function isFresh(version: string): Promise<boolean> {
  try {
    const metafile: Metafile = JSON.parse(await readFile(metafilePath, 'utf8'));
    await readFile(bundlePath);
    return (await readFile(stampPath, 'utf8')) === (await stampOf(version, metafile));
  } catch {
    // Whatever is missing or unreadable, bundling again makes it.
    return false;
  }
}

/** Bundles all five programs into one file, unless the one that is there was made from the same input. */
export async function bundle(version: string): Promise<'bundled' | 'reused'> {
  if (await isFresh(version)) return 'reused';
  const { metafile } = await build(bundleOptions(version));
  if (!metafile) throw new Error('esbuild returned no metafile');
  await writeFile(metafilePath, JSON.stringify(metafile));
  await writeFile(stampPath, await stampOf(version, metafile));
  return 'bundled';
}
