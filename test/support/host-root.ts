import { rmSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';

/** A host in a folder, made by the real install-host.sh around stand-ins for the executable. Needs no root. */
export interface HostRoot extends AsyncDisposable {
  readonly path: string;
  read(file: string): Promise<string | null>;
  write(file: string, text: string, mode?: number): Promise<void>;
  link(file: string): Promise<string | null>;
  list(folder: string): Promise<readonly string[]>;
  /** Runs one of the installed scripts in the shell under test, with this folder as QX_ROOT. */
  run(script: string, args?: readonly string[], env?: Record<string, string>): Promise<Ran>;
}

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where scripts run: BusyBox with nothing but its own tools, as on Alpine; and dash with the machine's. */
export interface Shell {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly onlyBusybox: boolean;
}

export const shells: readonly Shell[] = [
  { name: 'busybox ash', command: ['busybox', 'ash'], onlyBusybox: true },
  { name: 'dash', command: ['dash'], onlyBusybox: false },
];

export const hostRequirements = { commands: ['busybox', 'dash'] } as const;

/** A program that prints what it is and what it was called with. */
export const standIn = (says: string): string => `#!/bin/sh\necho "${says} $*"\n`;

const project = join(import.meta.dirname, '../..');
export const installer = join(project, 'scripts/install-host.sh');

export async function hostRoot(shell: Shell, version = '1.0.0'): Promise<HostRoot> {
  const folder = await mkdtemp(join(tmpdir(), 'quantix-host-'));
  const path = join(folder, 'root');
  const first = await installedOnce(shell, version);
  await cp(first.root, path, { recursive: true, verbatimSymlinks: true });
  const env = { PATH: first.searchPath, QX_ROOT: path };
  const [program, ...before] = shell.command;
  const options = { env, extendEnv: false, reject: false } as const;

  const write = async (file: string, text: string, mode = 0o644): Promise<void> => {
    await mkdir(dirname(join(path, file)), { recursive: true });
    await writeFile(join(path, file), text, { encoding: 'latin1' });
    await chmod(join(path, file), mode);
  };
  await mkdir(join(path, 'data'));
  await write('dev/kmsg', '');
  await write('proc/cmdline', 'quantix.slot=A quantix.env=grubenv\n');
  return {
    path,
    write,
    read: (file) => readFile(join(path, file), 'latin1').catch(() => null),
    link: (file) => readlink(join(path, file)).catch(() => null),
    list: (name) => readdir(join(path, name)).catch(() => []),
    run: async (script, args = [], extra = {}) => {
      const ran = await execa(program, [...before, join(path, script), ...args], {
        ...options,
        env: { ...env, ...extra },
      });
      return { exitCode: ran.exitCode ?? 1, stdout: ran.stdout, stderr: ran.stderr };
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

interface Installed {
  readonly root: string;
  readonly searchPath: string;
}

const installed = new Map<string, Promise<Installed>>();

/** What install-host.sh makes in this shell; the tests of a file get copies of it. */
function installedOnce(shell: Shell, version: string): Promise<Installed> {
  const key = `${shell.name} ${version}`;
  const root = installed.get(key) ?? installFor(shell, version);
  installed.set(key, root);
  return root;
}

async function installFor(shell: Shell, version: string): Promise<Installed> {
  const folder = await mkdtemp(join(tmpdir(), 'quantix-installed-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const root = join(folder, 'root');
  const PATH = await searchPath(shell, folder);
  await writeFile(join(folder, 'qx-node'), standIn('own'), { mode: 0o755 });
  const [program, ...before] = shell.command;
  const install = ['--root', root, '--executable', join(folder, 'qx-node'), '--version', version];
  const options = { env: { PATH }, extendEnv: false, reject: false } as const;
  const { exitCode, stderr } = await execa(program, [...before, installer, ...install], options);
  if (exitCode !== 0) throw new Error(`install-host.sh: ${stderr}`);
  return { root, searchPath: PATH };
}

async function searchPath(shell: Shell, folder: string): Promise<string> {
  if (!shell.onlyBusybox) return '/usr/sbin:/usr/bin';
  const { stdout: busybox } = await execa('sh', ['-c', 'command -v busybox']);
  const { stdout: applets } = await execa(busybox, ['--list']);
  const bin = join(folder, 'bin');
  await mkdir(bin);
  for (const name of applets.split('\n')) await symlink(busybox, join(bin, name));
  return bin;
}

/** Puts a component into /data the way an update leaves it there. */
export async function putData(root: HostRoot, name: string, version: string, says = `data ${version}`): Promise<void> {
  if (name === 'host-ui') await root.write('data/share/quantix-host-ui/index.html', says);
  else await root.write(`data/bin/${name}`, standIn(says), 0o755);
  await root.write(`data/versions/${name}.version`, `${version}\n`);
}

export const isThere = async (path: string): Promise<boolean> => (await stat(path).catch(() => null)) !== null;
