import { join } from 'node:path';

/**
 * The programs under test are those that users get. test/support/setup.ts has made them from these sources, and they start in a
 * fifth of the time that the sources take.
 */

export type ProgramName = 'qx-node' | 'qx-update' | 'qx-update-server' | 'qx-release' | 'qx-fleet';

export const built = (name: ProgramName): string => join(import.meta.dirname, '../../dist', name);
