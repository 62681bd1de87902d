import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';

/** Less than the agent may do, for the process that reads what the network sends. */

/**
 * Nobody's: above the users that systems and administrators create (to 60000), below those that systemd lends out (from
 * 61184) and that containers get (from 100000). Not 65534: whatever else runs as nobody could reach into our process.
 */
export const FETCH_ID = 60_917;

/**
 * Done by the process itself, with its code loaded and before it hears what to fetch: so it starts from wherever the agent
 * did, be it a folder that only root may enter. Changing the user also takes away every capability and makes the kernel
 * refuse to dump core or to let others trace it.
 */
export function dropRights(): void {
  process.umask(0o077);
  if (process.getuid?.() !== 0) return;
  process.setgroups?.([]);
  process.setgid?.(FETCH_ID);
  process.setuid?.(FETCH_ID);
  if (canReturn()) throw new Error('root is still within reach');
}

function canReturn(): boolean {
  try {
    process.setuid?.(0);
    return true;
  } catch {
    return false;
  }
}

const FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/**
 * No core, no file of more than nothing, few descriptors, and an end to a loop that outlives the agent. Node reserves more
 * than it uses, hence that much memory.
 */
const LIMITS = ['--core=0:0', '--fsize=0:0', '--nofile=64:64', '--cpu=3600:3600', '--as=4294967296:4294967296'];

export interface Confinement {
  /** Goes before the program; each part becomes the next one, so none of them stays. */
  readonly command: readonly string[];
  /** A program with the set-user-id bit does not help whoever took the process over. */
  readonly keepsRightsAway: boolean;
}

/**
 * util-linux and BusyBox both have setpriv, of which BusyBox knows this one option; prlimit is in util-linux only. The rest
 * of what setpriv could do is moot: without new privileges the bounding set bounds nothing.
 */
export async function confinement(): Promise<Confinement> {
  const setpriv = await findProgram('setpriv');
  const prlimit = await findProgram('prlimit');
  return {
    command: [
      ...(prlimit === null ? [] : [prlimit, ...LIMITS]),
      ...(setpriv === null ? [] : [setpriv, '--no-new-privs']),
    ],
    keepsRightsAway: setpriv !== null,
  };
}

async function findProgram(name: string): Promise<string | null> {
  for (const path of FOLDERS.map((folder) => join(folder, name))) {
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return null;
}
