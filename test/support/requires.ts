import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, test } from 'vitest';

export interface Requirements {
  readonly root?: boolean;
  /** Programs that must be found on PATH. */
  readonly commands?: readonly string[];
  /** Files that must be there, such as what `npm run build` makes, each with the command that makes it. */
  readonly files?: Readonly<Record<string, string>>;
}

interface Machine {
  readonly isRoot: boolean;
  readonly hasCommand: (name: string) => boolean;
  readonly hasFile: (path: string) => boolean;
  /** In CI scripts/test.sh has installed and built everything: there, what is missing is a failure and no excuse. */
  readonly isCi: boolean;
}

type Verdict = { readonly run: 'yes' } | { readonly run: 'skip' | 'fail'; readonly reason: string };

/** Decides whether tests with these requirements run on a machine, are skipped, or fail at once. */
export function judge(requirements: Requirements, machine: Machine): Verdict {
  const missing = [
    ...(requirements.root && !machine.isRoot ? ['root'] : []),
    ...(requirements.commands ?? []).filter((name) => !machine.hasCommand(name)),
    ...Object.entries(requirements.files ?? {})
      .filter(([path]) => !machine.hasFile(path))
      .map(([path, maker]) => `${path} (${maker})`),
  ];
  if (missing.length === 0) return { run: 'yes' };
  return { run: machine.isCi ? 'fail' : 'skip', reason: `needs ${missing.join(', ')}` };
}

function isThere(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

// A user's PATH on Debian has no sbin, though that is where losetup and mkfs live.
const commandFolders = (): string[] => [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

function thisMachine(): Machine {
  return {
    isRoot: process.getuid?.() === 0,
    hasCommand: (name) => commandFolders().some((folder) => isThere(join(folder, name), constants.X_OK)),
    hasFile: (path) => isThere(path, constants.R_OK),
    isCi: process.env.CI === 'true',
  };
}

/**
 * `requires({ root: true, commands: ['losetup'] })('slot on a loop device', () => { ... })` is a `describe` that says in
 * its name why it was skipped, and fails where it was expected to run.
 */
export function requires(requirements: Requirements): (name: string, tests: () => void) => void {
  const verdict = judge(requirements, thisMachine());
  if (verdict.run === 'yes') return (name, tests) => void describe(name, tests);
  if (verdict.run === 'skip') return (name, tests) => void describe.skip(`${name} [${verdict.reason}]`, tests);
  return (name) =>
    void test(name, () => {
      throw new Error(`in CI this must run, but it ${verdict.reason}`);
    });
}
