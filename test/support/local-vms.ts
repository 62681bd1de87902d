import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { onTestFinished } from 'vitest';

/** VMs of a host without a control plane: processes, each with a file that holds its pid, for programs in `drain.d`. */

export interface LocalVms {
  readonly folder: string;
  run(name: string): Promise<void>;
  /** Names of those whose processes are alive. */
  alive(): Promise<readonly string[]>;
}

export async function localVms(root: string): Promise<LocalVms> {
  const folder = join(root, 'vms');
  await mkdir(folder, { recursive: true });
  const stops: (() => Promise<void>)[] = [];
  onTestFinished(async () => {
    for (const stop of stops) await stop();
  });
  return {
    folder,
    run: async (name) => {
      const child = execa('sleep', ['600'], { reject: false });
      stops.push(async () => {
        child.kill('SIGKILL');
        await child;
      });
      await writeFile(join(folder, name), `${child.pid}\n`);
    },
    alive: async () => {
      const names = await readdir(folder);
      const found = await Promise.all(names.map(async (name) => [name, await isAlive(join(folder, name))] as const));
      return found.filter(([, alive]) => alive).map(([name]) => name);
    },
  };
}

async function isAlive(path: string): Promise<boolean> {
  try {
    return process.kill(Number((await readFile(path, 'utf8')).trim()), 0);
  } catch {
    await rm(path, { force: true });
    return false;
  }
}

/** A program for `drain.d` over them; `drain` is what it does with each of them. */
export const drainProgram = ({ folder }: LocalVms, drain = 'kill "$pid"'): string => `#!/bin/sh
cd '${folder}' || exit 1
each() {
  for vm in *; do
    [ -f "$vm" ] || continue
    read -r pid <"$vm"
    kill -0 "$pid" 2>/dev/null || continue
    "$1"
  done
}
show() { echo "$vm"; }
move() { ${drain}; }
echo "$1" >>../calls
case $1 in
  list) each show ;;
  drain) each move ;;
  undrain) ;;
esac
`;

export const callsOf = async (root: string): Promise<readonly string[]> =>
  (await readFile(join(root, 'calls'), 'utf8').catch(() => ''))
    .trim()
    .split('\n')
    .filter((word) => word !== '' && word !== 'list');
