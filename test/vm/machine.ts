import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IMAGE_COMMANDS } from '../../scripts/support/host-image.ts';
import type { Machine, Running } from '../../scripts/support/machine.ts';
import { DISK_COMMANDS, FAT_COMMANDS, type MachineDisk } from '../../scripts/support/machine-disk.ts';
import { BOOTED_MARK, TREE_COMMANDS } from '../../scripts/support/openrc-tree.ts';
import { makeBootableDisk } from '../../scripts/support/vm/disk.ts';
import { EFI_GRUB_FILES, GRUB_FILES } from '../../scripts/support/vm/grub.ts';
import { INITRAMFS_COMMANDS } from '../../scripts/support/vm/initramfs.ts';
import { KERNEL_FILES } from '../../scripts/support/vm/kernel.ts';
import { OVMF_FILES, QEMU, type Qemu, startQemu, UEFI } from '../../scripts/support/vm/qemu.ts';
import { type Shell, shellOn } from '../../scripts/support/vm/shell.ts';
import { JOURNEY, type Stage } from '../support/journey.ts';
import { keepDisk, logFolder } from './logs.ts';

/** The machine with nothing missing: a BIOS, GRUB in the disk, Debian's kernel, in QEMU without KVM. */

const COMMANDS = [...TREE_COMMANDS, ...IMAGE_COMMANDS, ...DISK_COMMANDS, ...INITRAMFS_COMMANDS, QEMU, 'grub-mkimage'];

export const VM = {
  root: true,
  commands: [...new Set(COMMANDS)],
  files: { ...JOURNEY.files, ...KERNEL_FILES, ...GRUB_FILES },
} as const;

/** How QEMU is started, besides with a disk. */
export interface Setup {
  readonly firmware?: 'bios' | 'uefi';
  /** More arguments. */
  readonly more?: readonly string[];
  /** The file in which a start, by its name, writes down what it does to the disk. */
  readonly writeLog?: (start: string) => string;
  /** Told of each that was started. */
  readonly started?: (qemu: Qemu) => void;
}

/** QEMU's user network takes the guest's 10.0.2.2 to our 127.0.0.1. */
export const inQemu = (setup: Setup = {}): Stage => ({
  make: async (options) => vmOn(await makeBootableDisk(options, 0, setup.firmware), setup),
  outside: '10.0.2.2',
  patienceMs: 240_000,
});

export const IN_QEMU = inQemu();

/** For a machine with a UEFI, whose boot partition is FAT. */
export const VM_UEFI = {
  ...VM,
  commands: [...VM.commands, ...FAT_COMMANDS],
  files: { ...VM.files, ...EFI_GRUB_FILES, ...OVMF_FILES },
} as const;

/** A processor made of software needs longer to become healthy; settings of `updates:`. */
export const SLOW = { health_timeout: '180s' } as const;

/** With a disk that there is already. */
export async function vmOn(machine: MachineDisk, setup: Setup = {}): Promise<Machine> {
  const place = { machine, logs: await logFolder(), setup, count: 0 };
  keepDisk(machine.disk, place.logs, argumentsOf(setup));
  return {
    ...machine,
    grub: () => untilKernel(place),
    boot: ({ mayEnd = false } = {}) => powerOn(place, mayEnd),
  };
}

interface Place {
  readonly machine: MachineDisk;
  readonly logs: string;
  readonly setup: Setup;
  count: number;
}

interface Started {
  readonly qemu: Qemu;
  readonly cmdline: string;
  readonly slot: 'A' | 'B';
  /** Writes down how long after the power button something happened. */
  note(what: string): Promise<void>;
}

const KERNEL_TIMEOUT_MS = 120_000;
/** The health gate alone may take as long as `SLOW` lets it. */
const UP_TIMEOUT_MS = 360_000;
const RUN_TIMEOUT_MS = 300_000;

/** Up to where the kernel says what GRUB gave it. */
async function start(place: Place): Promise<Started> {
  place.count += 1;
  const name = `boot-${place.count}`;
  const startMs = performance.now();
  const written = await writeLogOf(place, name);
  const { machine, logs, setup } = place;
  const more = argumentsOf(setup);
  const qemu = await startQemu({ disk: machine.disk, logFile: join(logs, `${name}.log`), more, ...written });
  setup.started?.(qemu);
  const note = (what: string): Promise<void> => {
    const afterS = ((performance.now() - startMs) / 1000).toFixed(1);
    return appendFile(join(place.logs, 'times.txt'), `${name} ${afterS} s: ${what}\n`);
  };
  qemu.ended.then(() => note('down'));
  try {
    const found = await qemu.untilConsole(/Command line: (.*)\n/, KERNEL_TIMEOUT_MS);
    const cmdline = found?.[1] ?? '';
    const slot = /quantix\.slot=([AB])/.exec(cmdline)?.[1] as 'A' | 'B' | undefined;
    if (slot === undefined) throw new Error('GRUB started no slot');
    await note(`kernel of slot ${slot}`);
    return { qemu, cmdline, slot, note };
  } catch (error) {
    await qemu.kill();
    throw explained(error, qemu);
  }
}

const argumentsOf = ({ firmware, more = [] }: Setup): readonly string[] => [
  ...(firmware === 'uefi' ? UEFI : []),
  ...more,
];

async function writeLogOf({ setup: { writeLog } }: Place, name: string): Promise<{ writeLog?: string }> {
  if (writeLog === undefined) return {};
  const path = writeLog(name);
  await writeFile(path, '');
  return { writeLog: path };
}

async function untilKernel(place: Place): ReturnType<Machine['grub']> {
  const { qemu, cmdline } = await start(place);
  await qemu.kill();
  const [, path = '', rest = ''] = /^BOOT_IMAGE=(\S+) (.*)$/.exec(cmdline) ?? [];
  return {
    kernel: { path, cmdline: rest, initramfs: path.replace(/vmlinuz$/, 'initramfs') },
    output: qemu.console(),
  };
}

async function powerOn(place: Place, mayEnd: boolean): Promise<Running> {
  const { qemu, slot, cmdline, note } = await start(place);
  const shell = shellOn(qemu.port);
  try {
    if ((await upOrDown(qemu, shell)) === 'up') await note('up');
    else if (!mayEnd) throw new Error('the host went down before it was up');
  } catch (error) {
    await qemu.kill();
    throw explained(error, qemu);
  }
  const freeze = async (): Promise<void> => void (await qemu.qmp.execute('stop'));
  return { slot, cmdline, ended: qemu.ended, freeze, ...inside(shell), [Symbol.asyncDispose]: qemu.kill };
}

async function upOrDown({ port, ended }: Qemu, shell: Shell): Promise<'up' | 'down'> {
  try {
    await shell.run(`until [ -e /${BOOTED_MARK} ]; do sleep 0.2; done`, UP_TIMEOUT_MS);
    return 'up';
  } catch (error) {
    // Its ports close a little before QEMU is gone.
    if (!port.destroyed) throw error;
    await ended;
    return 'down';
  }
}

function inside(shell: Shell): Pick<Running, 'run' | 'show'> {
  const run: Running['run'] = (command, ...args) =>
    shell
      .run([command, ...args].map(quoted).join(' '), RUN_TIMEOUT_MS)
      .catch((error: Error) => ({ exitCode: 1, output: error.message }));
  return {
    run,
    show: async (command, ...args) => {
      const { exitCode, output } = await run(command, ...args);
      process.stdout.write(`${output}\n`);
      return exitCode;
    },
  };
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

const explained = (error: unknown, qemu: Qemu): Error =>
  new Error(
    `${error instanceof Error ? error.message : error}; the console ends with:\n${qemu.console().slice(-3000)}`,
    {
      cause: error,
    },
  );
