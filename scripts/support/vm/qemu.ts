import { appendFileSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { plain } from '../terminal.ts';
import { type Qmp, qmpOn } from './qmp.ts';

/** One start of a virtual machine. A guest that restarts ends it: the next start is a new process, which is faster and knows nothing. */

export const QEMU = 'qemu-system-x86_64';

const OVMF = { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.fd' } as const;
export const OVMF_FILES = { [OVMF.code]: 'scripts/vm-packages.sh' } as const;

export interface QemuOptions {
  readonly disk: string;
  /** Writes down every write and flush here; for `powercut/block-log.ts`. */
  readonly writeLog?: string;
  /** `unsafe` throws no flush at the host's disk; what the guest wrote outlives QEMU all the same, killed or not. */
  readonly cache?: 'unsafe' | 'writeback' | 'none';
  readonly memoryMib?: number;
  /** One without it: two take turns on a busy machine, and are slower than one. */
  readonly processors?: number;
  /** Everything that comes out of the serial port: GRUB, the kernel, OpenRC. */
  readonly logFile: string;
  /** Somebody types into the serial port as well. */
  readonly isTyped?: boolean;
  /** More arguments. */
  readonly more?: readonly string[];
}

export interface Qemu {
  readonly pid: number;
  readonly qmp: Qmp;
  /** The guest's shell. */
  readonly port: Socket;
  /** The other end of the serial port, where it is typed into. */
  readonly line: Socket | null;
  /** What came out of the serial port so far, without terminal control sequences. */
  console(): string;
  /** The first match on the console; null when QEMU ended without one. @throws Error after timeoutMs */
  untilConsole(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray | null>;
  /** Settles when QEMU is gone, whatever the reason. */
  readonly ended: Promise<void>;
  /** At once, and waits for it. */
  kill(): Promise<void>;
}

export async function startQemu(options: QemuOptions): Promise<Qemu> {
  // A path of its own, for sockets may not have long ones.
  const folder = await mkdtemp(join(tmpdir(), 'qx-vm-'));
  const path = (name: string): string => join(folder, name);
  await mkdir(join(options.logFile, '..'), { recursive: true });
  await writeFile(options.logFile, '');
  // Stopped at first (-S): what the guest says in its shell is lost while nobody has connected to it.
  const args = ['-S', '-no-reboot', ...hardware(options), ...serial(options, path), ...ports(path)];
  const process = execa(QEMU, [...args, ...(options.more ?? [])], { stdin: 'ignore', reject: false, all: true });
  const ended = process.then(() => rm(folder, { recursive: true, force: true }));
  const diedFirst = process.then(({ all, message }) => Promise.reject(new Error(`QEMU ended: ${all || message}`)));
  diedFirst.catch(() => undefined);
  const kill = async (): Promise<void> => {
    process.kill('SIGKILL');
    await ended;
  };
  try {
    const open = (name: string): Promise<Socket> => Promise.race([connected(path(name)), diedFirst]);
    const port = await open('shell');
    const line = options.isTyped === true ? await open('line') : null;
    line?.on('data', (bytes: Buffer) => appendFileSync(options.logFile, bytes));
    const qmp = await Promise.race([qmpOn(await open('qmp')), diedFirst]);
    await qmp.execute('cont');
    const console = (): string => plain(readFileSync(options.logFile, 'latin1'));
    const untilConsole: Qemu['untilConsole'] = (pattern, timeoutMs) => waitFor(console, pattern, ended, timeoutMs);
    return { pid: process.pid ?? 0, qmp, port, line, console, untilConsole, ended, kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

/** Its bytes are lost where somebody reads them too slowly: they go to a file. */
const serial = ({ logFile, isTyped = false }: QemuOptions, path: (name: string) => string): readonly string[] =>
  isTyped
    ? [
        '-chardev',
        `socket,id=line,path=${path('line')},server=on,wait=off,logfile=${logFile}`,
        '-serial',
        'chardev:line',
      ]
    : ['-serial', `file:${logFile}`];

/** The shell has a port that holds the guest up instead. */
const ports = (path: (name: string) => string): readonly string[] => [
  ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=shell,name=qx.shell'],
  ...['-chardev', `socket,id=shell,path=${path('shell')},server=on,wait=off`],
  ...['-chardev', `socket,id=qmp,path=${path('qmp')},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
];

type Hardware = Pick<QemuOptions, 'disk' | 'cache' | 'writeLog' | 'memoryMib' | 'processors'> & {
  /** Ports of this machine's loopback that lead to ports of the guest. */
  readonly forwards?: Readonly<Record<number, number>>;
};

/**
 * QEMU translates wide registers and string instructions one piece at a time: with `max`, a kernel copies a seventh of the
 * bytes and OpenSSL hashes a third of them. The random numbers spare the kernel the wait for noise.
 */
const CPU = 'qemu64,+rdrand';

export const hardware = ({ memoryMib = 768, processors = 1, forwards = {}, ...options }: Hardware): string[] => [
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'std'],
  ...['-machine', 'pc', '-accel', 'tcg,thread=multi', '-cpu', CPU, '-smp', `${processors}`, '-m', `${memoryMib}`],
  ...['-rtc', 'base=utc', '-drive', drive(options)],
  // blklogwrites puts its own head before what it writes, and requests that were merged up to the kernel's limit then fail.
  ...['-device', 'virtio-blk-pci,drive=disk,request-merging=off'],
  ...['-netdev', ['user,id=net', ...Object.entries(forwards).map(forward)].join(',')],
  ...['-device', 'virtio-net-pci,netdev=net,romfile='],
];

/** More arguments, for a machine with a UEFI; what that remembers is gone when QEMU is. */
export const UEFI = [
  ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${OVMF.code}`],
  ...['-drive', `if=pflash,unit=1,format=raw,snapshot=on,file=${OVMF.variables}`],
];

/** The command line with which a person starts a disk that a test left behind; the console is the terminal. */
export const howToStart = (disk: string, more: readonly string[] = []): string =>
  [QEMU, ...hardware({ disk }), ...more, '-serial', 'mon:stdio'].join(' ');

const forward = ([here, there]: [string, number]): string => `hostfwd=tcp:127.0.0.1:${here}-:${there}`;

function drive({ disk, cache = 'unsafe', writeLog }: Hardware): string {
  if (writeLog === undefined) return `file=${disk},format=raw,if=none,id=disk,cache=${cache}`;
  const files = `file.driver=file,file.filename=${disk},log.driver=file,log.filename=${writeLog}`;
  return `driver=blklogwrites,if=none,id=disk,${files},log-sector-size=512`;
}

async function connected(path: string): Promise<Socket> {
  for (;;) {
    const socket = connect(path);
    const outcome = await new Promise<'open' | 'refused'>((resolve) => {
      socket.once('connect', () => resolve('open'));
      socket.once('error', () => resolve('refused'));
    });
    // Later errors are those of a machine that went down.
    socket.on('error', () => undefined);
    if (outcome === 'open') return socket;
    await sleep(20);
  }
}

async function waitFor(
  log: () => string,
  pattern: RegExp,
  ended: Promise<void>,
  timeoutMs: number,
): Promise<RegExpExecArray | null> {
  const state = { isOver: false };
  ended.then(() => Object.assign(state, { isOver: true }));
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const { isOver } = state;
    const found = pattern.exec(log());
    if (found !== null || isOver) return found;
    if (performance.now() > endMs) throw new Error(`not on the console in ${timeoutMs} ms: ${pattern}`);
    await sleep(50);
  }
}
