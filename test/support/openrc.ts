import { chmod, cp, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';

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
  commands: ['busybox', 'openrc', 'openrc-run', 'rc-service', 'supervise-daemon', 'unshare', 'nsenter', 'ldd', 'pgrep'],
} as const;

export async function withOpenrcRoot<T>(options: OpenrcOptions, use: (root: OpenrcRoot) => Promise<T>): Promise<T> {
  await using root = await bootOpenrcRoot(options);
  return await use(root);
}

const bootedMark = 'run/booted';
const bootTimeoutMs = 30_000;

export async function bootOpenrcRoot({ prepare, cmdline = '' }: OpenrcOptions): Promise<OpenrcRoot> {
  const path = await mkdtemp(join(tmpdir(), 'quantix-openrc-'));
  await makeTree(path, cmdline);
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
    await Promise.race([untilThere(join(path, bootedMark), bootTimeoutMs), diedFirst]);
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
    const { stdout: initPid } = await execa('pgrep', ['-P', String(unsharePid)], { reject: false });
    const flags = ['--target', initPid, '--mount', '--pid', '--uts', '--ipc', '--root', '--wd'];
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

const folders =
  'usr/bin usr/sbin usr/lib usr/lib64 etc/init.d etc/local.d etc/conf.d proc dev run tmp var/log harness etc/insserv.conf.d'
    .concat(' etc/runlevels/sysinit etc/runlevels/boot etc/runlevels/default etc/runlevels/shutdown')
    .split(' ');
const programs = ['openrc', 'openrc-run', 'rc-service', 'rc-update', 'rc-status', 'supervise-daemon', 'busybox'];

async function makeTree(path: string, cmdline: string): Promise<void> {
  for (const folder of folders) await mkdir(join(path, folder), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${name}`, join(path, name));
  const binaries = await Promise.all(programs.map(locate));
  for (const binary of binaries) await copyTo(path, binary, `/usr/bin/${binary.slice(binary.lastIndexOf('/') + 1)}`);
  await cp('/lib/rc', join(path, 'usr/lib/rc'), { recursive: true });
  const helpers = ['/lib/rc/bin/checkpath', '/lib/rc/sbin/mark_service_started'];
  for (const library of await librariesOf([...binaries, ...helpers])) await copyTo(path, library, library);
  await execa('chroot', [path, '/bin/busybox', '--install', '-s', '/usr/bin']);
  // OpenRC names these two by their place in /sbin.
  for (const name of ['openrc', 'openrc-run']) await symlink(`../bin/${name}`, join(path, 'usr/sbin', name));
  for (const [file, text] of Object.entries(files)) await writeFile(join(path, file), text);
  await writeFile(join(path, 'harness/cmdline'), `${cmdline}\n`);
  await chmod(join(path, 'etc/init.d/local'), 0o755);
}

const files = {
  'etc/inittab': [
    '::sysinit:/sbin/openrc sysinit',
    '::sysinit:/sbin/openrc boot',
    '::wait:/sbin/openrc default',
    `::once:/bin/touch /${bootedMark}`,
    '::shutdown:/sbin/openrc shutdown',
    '',
  ].join('\n'),
  'etc/rc.conf': 'rc_controller_cgroups="NO"\nrc_tty_number=0\n',
  'etc/passwd': 'root:x:0:0::/:/bin/sh\n',
  'etc/group': 'root:x:0:\nuucp:x:14:\n',
  // Debian's OpenRC complains about each service without it.
  'etc/insserv.conf': '',
  // Debian's BusyBox shell runs md5sum in its own process, which makes OpenRC believe that /proc is not mounted. A second
  // proc would uncover the two files, so what it mounts is the first one again.
  'etc/fstab': '/proc /proc none rbind 0 0\n',
  'dev/kmsg': '',
  'dev/console': '',
  'harness/sysrq': '',
  // Debian's package leaves this service out. OpenRC's own does the same: all executable *.start files in their order.
  'etc/init.d/local': `#!/sbin/openrc-run
depend() { after *; keyword -timeout; }
start() {
  ebegin "Starting local"
  for file in /etc/local.d/*.start; do [ ! -x "$file" ] || "$file" || ewarn "$file failed"; done
  eend 0
}
`,
};

async function locate(name: string): Promise<string> {
  for (const folder of ['/usr/sbin', '/usr/bin', '/sbin', '/bin']) {
    if (await stat(join(folder, name)).catch(() => null)) return join(folder, name);
  }
  throw new Error(`no program ${name} on this machine`);
}

async function copyTo(root: string, from: string, to: string): Promise<void> {
  await mkdir(dirname(join(root, to)), { recursive: true });
  await cp(from, join(root, to), { dereference: true });
}

async function librariesOf(binaries: readonly string[]): Promise<ReadonlySet<string>> {
  const { stdout } = await execa('ldd', binaries, { reject: false });
  return new Set([...stdout.matchAll(/(\/\S+\.so\S*) \(0x/g)].flatMap(([, path]) => path ?? []));
}

/** What the scripts wrote to the kernel's log. */
export const kernelLog = (path: string): Promise<string> => readFile(join(path, 'dev/kmsg'), 'utf8');
