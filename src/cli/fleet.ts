import { runFleet } from './fleet/program.ts';

/** qx-fleet on the real machine. */
export const main = (args: readonly string[]): Promise<number> =>
  runFleet(args, { stdout: process.stdout, stderr: process.stderr, env: process.env });
