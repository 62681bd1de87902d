import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';

/** The executable of older code, built as it was then, with the modules of today. */

/** The last commit before agents were watched, and before a release was taken back with its agent. */
export const OLDER = 'df4b63d';

/** A shallow clone does not have it. */
export const hasOlderCode = async (): Promise<boolean> =>
  (await execa('git', ['cat-file', '-e', `${OLDER}^{commit}`], { reject: false })).exitCode === 0;

/** Answers the folder with the executable, which says that it is this version. */
export async function buildOlder(folder: string, version: string): Promise<string> {
  const tree = join(folder, 'tree');
  await mkdir(join(tree, 'dist/cache'), { recursive: true });
  const archive = join(folder, 'older.tar');
  await execa('git', ['archive', '--output', archive, OLDER]);
  await execa('tar', ['-x', '-f', archive, '-C', tree]);
  await symlink(resolve('node_modules'), join(tree, 'node_modules'));
  // The stripped runtime is the same one.
  for (const name of ['node', 'node.version']) await cp(join('dist/cache', name), join(tree, 'dist/cache', name));
  const manifest = JSON.parse(await readFile(join(tree, 'package.json'), 'utf8'));
  await writeFile(join(tree, 'package.json'), JSON.stringify({ ...manifest, version }));
  await execa(process.execPath, ['scripts/build.ts'], { cwd: tree, env: { SOURCE_DATE_EPOCH: '1790000000' } });
  return join(tree, 'dist');
}
