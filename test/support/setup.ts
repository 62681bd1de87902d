import { execa } from 'execa';

/**
 * Before the first test: the executable that the tests start is made from the sources as they are now. Where it cannot be made,
 * the tests that start it say so, and the others still run.
 */
export async function setup(): Promise<void> {
  const { exitCode, all } = await execa(process.execPath, ['scripts/build.ts', '--host'], { reject: false, all: true });
  if (exitCode !== 0) process.stderr.write(`npm run build -- --host:\n${all}\n`);
}
