import { chmod, cp, mkdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';

/**
 * The root folder of a small host: BusyBox, the machine's own OpenRC, and the libraries that they need.
 */

/** Who is process 1: BusyBox init starts it the way Alpine is started, OpenRC's own init the way of Artix and of Gentoo. */
export type Init = 'busybox' | 'openrc';

/** Appears in the root when every runlevel has been started. */
export const BOOTED_MARK = 'run/booted';

/** What makes the root: Debian's openrc and busybox-static. */
export const TREE_COMMANDS = ['busybox', 'openrc', 'openrc-run', 'rc-service', 'supervise-daemon', 'ldd'] as const;

const folders =
  'usr/bin usr/sbin usr/lib usr/lib64 etc/init.d etc/local.d etc/conf.d proc dev run tmp var/log harness etc/insserv.conf.d'
    .concat(' etc/runlevels/sysinit etc/runlevels/boot etc/runlevels/default etc/runlevels/shutdown')
    .split(' ');
const programs = ['openrc', 'openrc-run', 'rc-service', 'rc-update', 'rc-status', 'supervise-daemon', 'busybox'];

/** `more` are further programs of this machine that go into it with their libraries. */
export async function makeOpenrcTree(
  path: string,
  more: readonly string[] = [],
  init: Init = 'busybox',
): Promise<void> {
  for (const folder of folders) await mkdir(join(path, folder), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${name}`, join(path, name));
  const binaries = await Promise.all([...programs, ...(init === 'openrc' ? openrcInit : []), ...more].map(locate));
  for (const binary of binaries) await copyTo(path, binary, `/usr/bin/${binary.slice(binary.lastIndexOf('/') + 1)}`);
  await cp('/lib/rc', join(path, 'usr/lib/rc'), { recursive: true });
  const helpers = ['/lib/rc/bin/checkpath', '/lib/rc/sbin/mark_service_started'];
  for (const library of await librariesOf([...binaries, ...helpers])) await copyTo(path, library, library);
  await execa('chroot', [path, '/bin/busybox', '--install', '-s', '/usr/bin']);
  // OpenRC names these two by their place in /sbin.
  for (const name of ['openrc', 'openrc-run']) await symlink(`../bin/${name}`, join(path, 'usr/sbin', name));
  for (const [file, text] of Object.entries(files)) await writeFile(join(path, file), text);
  await chmod(join(path, 'etc/init.d/local'), 0o755);
  // What a kernel starts.
  await symlink(init === 'busybox' ? '../bin/busybox' : '../bin/openrc-init', join(path, 'usr/sbin/init'));
  if (init === 'openrc') await bootWithoutInittab(path);
}

const openrcInit = ['openrc-init', 'openrc-shutdown'];

/** OpenRC's init reads no inittab; and BusyBox's reboot, which is found later, would only send it a signal that it does not know. */
async function bootWithoutInittab(path: string): Promise<void> {
  await rm(join(path, 'etc/inittab'));
  const scripts = {
    'usr/sbin/reboot': 'exec openrc-shutdown --reboot now',
    'etc/local.d/zz-booted.start': `touch /${BOOTED_MARK}`,
  };
  for (const [file, line] of Object.entries(scripts)) {
    await writeFile(join(path, file), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  }
}

const files = {
  'etc/inittab': [
    '::sysinit:/sbin/openrc sysinit',
    '::sysinit:/sbin/openrc boot',
    '::wait:/sbin/openrc default',
    `::once:/bin/touch /${BOOTED_MARK}`,
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
