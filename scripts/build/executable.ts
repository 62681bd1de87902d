import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { readKeyring as checkKeyring } from '../../src/format/keyring.ts';
import { bundlePaths } from './bundle.ts';
import { codeCacheName } from './programs-apart.ts';

const executableName = 'qx-node';
const otherNames = ['qx-update', 'qx-update-server', 'qx-release', 'qx-fleet'];
const strippedNodePath = 'dist/cache/node';
const strippedNodeVersionPath = 'dist/cache/node.version';
const seaConfigPath = 'sea-config.json';
const codeCacheScript = 'scripts/build/code-cache.ts';
export const executablePath = join('dist', executableName);

/** What is baked when no keyring is named: it trusts nobody. */
const emptyKeyring = `${JSON.stringify({ format: 1, epoch: 1, kind: 'none', keys: [] })}\n`;

export async function readKeyring(path: string | undefined): Promise<string> {
  if (path === undefined) return emptyKeyring;
  const bytes = await readFile(path);
  checkKeyring(bytes);
  return bytes.toString('utf8');
}

/** Symbols are a fifth of Node and no use on a host. They go before the injection: stripped afterwards it crashes. */
async function stripNode(): Promise<void> {
  const version = `${process.version} ${process.arch}`;
  const stripped = await readFile(strippedNodeVersionPath, 'utf8').catch(() => '');
  if (stripped === version && (await stat(strippedNodePath).catch(() => null))) return;
  await rm(strippedNodeVersionPath, { force: true });
  await execa('strip', ['-s', '-o', strippedNodePath, process.execPath]);
  await writeFile(strippedNodeVersionPath, version);
}

async function linkNames(folder: string): Promise<void> {
  for (const name of otherNames) {
    await rm(join(folder, name), { force: true });
    await symlink(executableName, join(folder, name));
  }
}

/**
 * V8's random seed reaches the code it compiles. Fixed, the same input gives the same bytes; --hash-seed would do as well,
 * but the runtime then rejects the compiled code.
 */
const sameBytes = ['--random-seed=1'];

/** What a file is made of, and which file that was: another one in its place, or from other parts, has another stamp. */
async function stampOf(made: string, parts: readonly string[], more = ''): Promise<string> {
  const hash = createHash('sha256').update(`${process.version} ${process.arch} ${more}\n`);
  for (const path of parts) hash.update(await readFile(path));
  const { size, mtimeMs, ino } = await stat(made);
  return [hash.digest('hex'), size, mtimeMs, ino].join(' ');
}

/** Makes a file unless it is there and was made from the same parts. */
async function madeOnce(
  made: string,
  { parts, more, make }: { readonly parts: readonly string[]; readonly more?: string; make(): Promise<void> },
): Promise<'made' | 'reused'> {
  const stampPath = join('dist/cache', `${made.replaceAll('/', '-')}.stamp`);
  const before = await readFile(stampPath, 'utf8').catch(() => '');
  if (before !== '' && before === (await stampOf(made, parts, more).catch(() => null))) return 'reused';
  await make();
  await writeFile(stampPath, await stampOf(made, parts, more));
  return 'made';
}

/** Puts bundles and keyring into the runtime. The keyring is an asset, so that other keys need no other bundle. */
export const makeExecutable = (keyring: string): Promise<'made' | 'reused'> =>
  madeOnce(executablePath, {
    parts: [...Object.values(bundlePaths), seaConfigPath, codeCacheScript],
    more: keyring,
    make: async () => {
      await stripNode();
      await writeFile('dist/keyring.json', keyring);
      await execa(process.execPath, [...sameBytes, codeCacheScript, bundlePaths.programs, `dist/${codeCacheName}`]);
      await execa(process.execPath, [...sameBytes, '--build-sea', seaConfigPath]);
      // A file that is being executed can't be written to, but it can be replaced.
      await rename(join('dist/cache', executableName), executablePath);
      await linkNames('dist');
    },
  });

const runtimePath = '/usr/lib/quantix/rt';

/** The loader and the libraries that the runtime names, as this machine has them. */
async function runtimeFiles(): Promise<{ loader: string; libraries: string[] }> {
  const { stdout: loader } = await execa('patchelf', ['--print-interpreter', executablePath]);
  const { stdout: listing } = await execa('ldd', [executablePath]);
  const libraries = [...listing.matchAll(/=> (\/\S+)/g)].flatMap(([, path]) => path ?? []);
  return { loader, libraries };
}

/**
 * Makes dist/host, to be copied to /usr/lib/quantix of a host without glibc: an executable that finds its loader and
 * libraries in rt/. Patched after the injection, which rewrites the table that the library path stands in.
 */
export const makeHostFolder = (): Promise<'made' | 'reused'> =>
  madeOnce(join('dist/host/bin', executableName), {
    parts: [executablePath],
    make: async () => {
      const next = 'dist/host.next';
      await rm(next, { recursive: true, force: true });
      await mkdir(join(next, 'bin'), { recursive: true });
      await mkdir(join(next, 'rt'));
      const { loader, libraries } = await runtimeFiles();
      for (const path of [loader, ...libraries]) await copyFile(path, join(next, 'rt', nameOf(path)));
      const patched = join(next, 'bin', executableName);
      await copyFile(executablePath, patched);
      const interpreter = join(runtimePath, nameOf(loader));
      await execa('patchelf', ['--set-interpreter', interpreter, '--set-rpath', runtimePath, patched]);
      await linkNames(join(next, 'bin'));
      await rm('dist/host', { recursive: true, force: true });
      await rename(next, 'dist/host');
    },
  });

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
