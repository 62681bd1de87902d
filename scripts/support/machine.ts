import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { childOf } from './child-of.ts';
import { GRUB_COMMANDS, type GrubRun, grubMachine } from './grub-emu.ts';
import { DISK_COMMANDS, type MachineDisk, type MachineOptions, MIB, makeDisk, type Partition } from './machine-disk.ts';
import { BOOTED_MARK, TREE_COMMANDS } from './openrc-tree.ts';

/**
 * A machine whose only missing part is the kernel: a disk image with a real partition table, the real GRUB deciding on it,
 * and the image of the slot that it chose started as a whole system, OpenRC and all, in namespaces of its own.
 */

export const MACHINE_COMMANDS = [
  ...TREE_COMMANDS,
  ...GRUB_COMMANDS,
  ...DISK_COMMANDS,
  'losetup',
  'unshare',
  'nsenter',
] as const;

export interface Machine extends MachineDisk {
  /** Power on, up to where GRUB hands over to a kernel: it reads and counts on the disk. */
  grub(): Promise<GrubRun>;
  /** Power on, all the way: GRUB, then the system of the slot that it chose. Going down before it is up is an error unless it may. */
  boot(options?: { readonly mayEnd?: boolean }): Promise<Running>;
}

export interface Running extends AsyncDisposable {
  readonly slot: 'A' | 'B';
  readonly cmdline: string;
  /** Runs a command on the host, as root; never throws for its exit code. */
  run(command: string, ...args: string[]): Promise<{ exitCode: number; output: string }>;
  /** Runs a command on the host whose output goes straight to ours. */
  show(command: string, ...args: string[]): Promise<number>;
  /** Nothing on the host moves any more: what its memory holds reaches the disk no more. */
  freeze(): Promise<void>;
  /** Settles when the host went down by itself. */
  readonly ended: Promise<void>;
  /** Power off at once. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** `isAlone`: without any network. */
export async function makeMachine(options: MachineOptions, { isAlone = false } = {}): Promise<Machine> {
  const { disk, partitions } = await makeDisk(options);
  const grubFolder = join(options.folder, 'grub-emu');
  await mkdir(grubFolder);
  const runGrub = await grubMachine(grubFolder);
  const grub = () => runGrub({ disks: [disk], root: 'hd0,gpt1' });
  const boot: Machine['boot'] = async ({ mayEnd = false } = {}) => {
    const place = { folder: options.folder, disk, partitions, isAlone };
    return powerOn(place, await grub(), mayEnd);
  };
  return { disk, partitions, grub, boot };
}

/** Loop devices over the partitions: this kernel scans no partition tables. Attached for one boot, so that nothing is cached over GRUB's writes. */
async function attach(disk: string, { startMib, sizeMib }: Partition): Promise<string> {
  const range = ['--offset', String(startMib * MIB), '--sizelimit', String(sizeMib * MIB)];
  const { stdout } = await execa('losetup', ['--find', '--show', ...range, disk]);
  return stdout.trim();
}

interface Place extends MachineDisk {
  readonly folder: string;
  readonly isAlone: boolean;
}

async function powerOn(
  { folder, disk, partitions, isAlone }: Place,
  { kernel, output }: GrubRun,
  mayEnd: boolean,
): Promise<Running> {
  if (kernel === null) throw new Error(`GRUB booted nothing:\n${output}`);
  const slot = /quantix\.slot=([AB])/.exec(kernel.cmdline)?.[1] as 'A' | 'B' | undefined;
  if (slot === undefined) throw new Error(`GRUB named no slot: ${kernel.cmdline}`);
  const work = join(folder, 'work');
  await mkdir(work, { recursive: true });
  await writeFile(join(folder, 'cmdline'), `BOOT_IMAGE=${kernel.path} ${kernel.cmdline}\n`);
  const loops: string[] = [];
  for (const name of ['boot', 'A', 'B', 'config', 'data'] as const) loops.push(await attach(disk, partitions[name]));
  const args = [work, join(folder, 'cmdline'), slot, ...loops];
  const host = execa(
    'unshare',
    [...namespaces, ...(isAlone ? ['--net'] : []), '/bin/sh', '-euc', assemble, 'assemble', ...args],
    {
      stdin: 'ignore',
      reject: false,
      all: true,
    },
  );
  const ended = host.then(() => undefined);
  const { leave, ...inside } = entering(host.pid, isAlone);
  const powerOff = async (): Promise<void> => {
    host.kill('SIGKILL');
    await ended;
    await leave();
    for (const loop of loops) await detach(disk, loop);
  };
  const freeze = async (): Promise<void> => void (await inside.run('kill', '-STOP', '-1'));
  const running = { slot, cmdline: kernel.cmdline, ended, freeze, ...inside, [Symbol.asyncDispose]: powerOff };
  const diedFirst = host.then((result) => Promise.reject(new Error(`it ended while starting:\n${result.all}`)));
  try {
    await Promise.race([untilBooted(running), mayEnd ? ended : diedFirst]);
  } catch (error) {
    await powerOff();
    throw error;
  } finally {
    diedFirst.catch(() => undefined);
  }
  return running;
}

/**
 * Mounts of the namespace that just ended may hold it for a moment; the kernel then lets go of it by itself. Asked only once,
 * because by the second time the device may already be somebody else's.
 */
async function detach(disk: string, loop: string): Promise<void> {
  await execa('losetup', ['--detach', loop], { reject: false });
  for (let attempt = 0; ; attempt++) {
    const { stdout } = await execa('losetup', ['--associated', disk, '--noheadings', '--list', '--output', 'NAME']);
    if (!stdout.split('\n').some((name) => name.trim() === loop)) return;
    if (attempt === DETACH_ATTEMPTS) throw new Error(`${loop} stays busy`);
    await sleep(100);
  }
}

const DETACH_ATTEMPTS = 300;

// kill-child: when this process dies, so does everything inside.
const namespaces = ['--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child'];

/**
 * What an initramfs does: the slot's squashfs (in it, or in the ext4 that an older layout has there), a tmpfs over it, the
 * other partitions, and init. The kernel's sysrq-trigger is covered, because a script under test may write to it and the
 * machine that we run on would be gone.
 */
const assemble = `
  work=$1 cmdline=$2 slot=$3 boot=$4 a=$5 b=$6 config=$7 data=$8
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 quantix "$work"
  mkdir "$work/slot" "$work/system" "$work/upper" "$work/lower" "$work/root"
  if [ "$slot" = A ]; then mount -o ro "$a" "$work/slot"; else mount -o ro "$b" "$work/slot"; fi
  if [ -f "$work/slot/quantix/system.squashfs" ]; then
    mount -t squashfs -o ro,loop "$work/slot/quantix/system.squashfs" "$work/system"
  else
    mount --bind "$work/slot" "$work/system"
  fi
  root=$work/root
  mount -t overlay -o "lowerdir=$work/system,upperdir=$work/upper,workdir=$work/lower" overlay "$root"
  mkdir -p "$root/boot" "$root/quantix" "$root/data" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp"
  mount "$boot" "$root/boot"; mount "$config" "$root/quantix"; mount "$data" "$root/data"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  : >"$work/sysrq"
  if [ -e "$root/proc/sysrq-trigger" ]; then mount --bind "$work/sysrq" "$root/proc/sysrq-trigger"; fi
  mount --bind "$cmdline" "$root/proc/cmdline"
  mount -t tmpfs -o mode=755 run "$root/run"
  mount -t tmpfs -o mode=755 dev "$root/dev"
  for node in null zero full random urandom "\${a#/dev/}" "\${b#/dev/}"; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
  mkdir -p "$root/dev/disk/by-partlabel" "$root/dev/shm"
  : >"$root/dev/kmsg"; : >"$root/dev/console"; : >"$root/dev/tty1"; mount --bind /dev/null "$root/dev/tty1"
  ln -s "$a" "$root/dev/disk/by-partlabel/QUANTIX-A"; ln -s "$b" "$root/dev/disk/by-partlabel/QUANTIX-B"
  exec chroot "$root" /bin/busybox env -i PATH=/usr/sbin:/usr/bin /bin/busybox init
`;

type Killable<T> = Promise<T> & { kill(signal: 'SIGKILL'): boolean };

/** `leave` ends the commands that are still under way: they hold the namespaces, and those whose process was stopped would for ever. */
function entering(
  unsharePid: number | undefined,
  isAlone: boolean,
): Pick<Running, 'run' | 'show'> & { leave(): Promise<void> } {
  const underWay = new Set<Killable<unknown>>();
  const entered = async <T>(command: Killable<T>): Promise<T> => {
    underWay.add(command);
    try {
      return await command;
    } finally {
      underWay.delete(command);
    }
  };
  const enter = async (): Promise<string[]> => {
    const spaces = ['--mount', '--pid', '--uts', '--ipc', ...(isAlone ? ['--net'] : [])];
    return ['--target', await childOf(unsharePid), ...spaces, '--root', '--wd'];
  };
  const environment = {
    env: { PATH: '/usr/sbin:/usr/bin', TERM: process.env.TERM ?? 'dumb' },
    extendEnv: false,
  } as const;
  return {
    run: async (command, ...args) => {
      const options = { ...environment, stdin: 'ignore', reject: false, all: true, timeout: 300_000 } as const;
      const { exitCode, all } = await entered(execa('nsenter', [...(await enter()), command, ...args], options));
      return { exitCode: exitCode ?? 1, output: all };
    },
    show: async (command, ...args) => {
      const options = { ...environment, stdin: 'ignore', stdout: 'inherit', stderr: 'inherit', reject: false } as const;
      const { exitCode } = await entered(execa('nsenter', [...(await enter()), command, ...args], options));
      return exitCode ?? 1;
    },
    leave: async () => {
      for (const command of underWay) command.kill('SIGKILL');
      await Promise.all(underWay);
    },
  };
}

const BOOT_TIMEOUT_MS = 60_000;

async function untilBooted(running: Pick<Running, 'run'>): Promise<void> {
  const endMs = performance.now() + BOOT_TIMEOUT_MS;
  for (;;) {
    const { exitCode } = await running.run('test', '-e', `/${BOOTED_MARK}`).catch(() => ({ exitCode: 1 }));
    if (exitCode === 0) return;
    if (performance.now() > endMs) throw new Error(`the host did not come up in ${BOOT_TIMEOUT_MS} ms`);
    await sleep(100);
  }
}
