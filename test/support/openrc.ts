import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { childOf } from '../../scripts/support/child-of.ts';
import { BOOTED_MARK, makeOpenrcTree, TREE_COMMANDS } from '../../scripts/support/openrc-tree.ts';

/**
 * A host in a folder: BusyBox and the machine's own OpenRC, booted by BusyBox init in private mount, pid, uts and ipc
 * namespaces, the way Alpine boots. The folder is seen from outside too, so a test reads and writes its files directly.
 */
export interface OpenrcRoot extends AsyncDisposable {
  readonly path: string;
  /** Runs one command inside, as root, and never throws for its exit code. */
  run(command: string, ...args: string[]): Promise<Ran>;
  /** Settles when the host went down by itself, as after a reboot. */
  readonly ended: Promise<void>;
}

export interface Ran {
  readonly exitCode: number;
  readonly output: string;
}

export interface OpenrcOptions {
  /** Puts more files into the root before it boots. */
  readonly prepare?: (path: string) => Promise<void>;
  /** What /proc/cmdline says. */
  readonly cmdline?: string;
}

/** What `requires()` has to be asked for before `withOpenrcRoot` is used. */
export const openrcRequirements = {
  root: true,
  commands: [...TREE_COMMANDS, 'unshare', 'nsenter'],
} as const;

export async function withOpenrcRoot<T>(options: OpenrcOptions, use: (root: OpenrcRoot) => Promise<T>): Promise<T> {
  await using root = await bootOpenrcRoot(options);
  return await use(root);
}

const bootTimeoutMs = 30_000;

export async function bootOpenrcRoot({ prepare, cmdline = '' }: OpenrcOptions): Promise<OpenrcRoot> {
  const path = await mkdtemp(join(tmpdir(), 'quantix-openrc-'));
  await makeOpenrcTree(path);
  await writeFile(join(path, 'harness/cmdline'), `${cmdline}\n`);
  await prepare?.(path);
  const host = execa('unshare', [...namespaceFlags, '/bin/sh', '-euc', assemble, 'assemble', path], {
    stdin: 'ignore',
    reject: false,
    all: true,
  });
  const ended = host.then(() => undefined);
  const root = { path, ended, run: runner(host.pid), [Symbol.asyncDispose]: dispose };
  async function dispose(): Promise<void> {
    host.kill('SIGKILL');
    await ended;
    await rm(path, { recursive: true, force: true });
  }
  try {
    const diedFirst = ended.then(() => Promise.reject(new Error('it ended while booting')));
    await Promise.race([untilThere(join(path, BOOTED_MARK), bootTimeoutMs), diedFirst]);
    diedFirst.catch(() => undefined);
    const { output } = await root.run('cat', '/proc/cmdline');
    if (output !== cmdline) throw new Error(`/proc is not covered: its cmdline says ${output}`);
    return root;
  } catch (error) {
    host.kill('SIGKILL');
    const { all } = await host;
    await rm(path, { recursive: true, force: true });
    throw new Error(`the OpenRC root did not boot: ${all}`, { cause: error });
  }
}

// kill-child: when the test process dies, so does everything inside.
const namespaceFlags = ['--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child'];

/**
 * The kernel's own /proc/sysrq-trigger and /proc/cmdline are covered by files, because a script under test may write to the
 * first one and the machine would be gone. /run is bound onto itself: OpenRC would hide it behind a tmpfs otherwise.
 */
const assemble = `
  mount --make-rprivate /
  mount -t proc proc "$1/proc"
  if [ -e "$1/proc/sysrq-trigger" ]; then mount --bind "$1/harness/sysrq" "$1/proc/sysrq-trigger"; fi
  mount --bind "$1/harness/cmdline" "$1/proc/cmdline"
  mount --bind "$1/run" "$1/run"
  for node in null zero full random urandom; do : >"$1/dev/$node"; mount --bind "/dev/$node" "$1/dev/$node"; done
  exec chroot "$1" /bin/busybox env -i PATH=/usr/sbin:/usr/bin /bin/busybox init
`;

function runner(unsharePid: number | undefined): OpenrcRoot['run'] {
  return async (command, ...args) => {
    const flags = ['--target', await childOf(unsharePid), '--mount', '--pid', '--uts', '--ipc', '--root', '--wd'];
    const { exitCode, all } = await execa('nsenter', [...flags, command, ...args], {
      env: { PATH: '/usr/sbin:/usr/bin' },
      extendEnv: false,
      stdin: 'ignore',
      reject: false,
      all: true,
      timeout: 60_000,
    });
    return { exitCode: exitCode ?? 1, output: all };
  };
}

async function untilThere(path: string, timeoutMs: number): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await stat(path).catch(() => null))) {
    if (performance.now() > endMs) throw new Error(`${path} did not appear in ${timeoutMs} ms`);
    await sleep(50);
  }
}

/** What the scripts wrote to the kernel's log. */
export const kernelLog = (path: string): Promise<string> => readFile(join(path, 'dev/kmsg'), 'utf8');
