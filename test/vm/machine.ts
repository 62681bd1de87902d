import { appendFile, cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IMAGE_COMMANDS } from '../../scripts/support/host-image.ts';
import type { Machine, Running } from '../../scripts/support/machine.ts';
import { DISK_COMMANDS, type MachineDisk, type MachineOptions, makeDisk } from '../../scripts/support/machine-disk.ts';
import { BOOTED_MARK, TREE_COMMANDS } from '../../scripts/support/openrc-tree.ts';
import { JOURNEY, type Stage } from '../support/journey.ts';
import { embedGrub, GRUB_FILES } from './grub.ts';
import { INITRAMFS_COMMANDS } from './initramfs.ts';
import { KERNEL_FILES } from './kernel.ts';
import { logFolder } from './logs.ts';
import { QEMU, type Qemu, startQemu } from './qemu.ts';
import { type Shell, shellOn } from './shell.ts';

/** The machine with nothing missing: a BIOS, GRUB in the disk, Debian's kernel, in QEMU without KVM. */

const COMMANDS = [...TREE_COMMANDS, ...IMAGE_COMMANDS, ...DISK_COMMANDS, ...INITRAMFS_COMMANDS, QEMU, 'grub-mkimage'];

export const VM = {
  root: true,
  commands: [...new Set(COMMANDS)],
  files: { ...JOURNEY.files, ...KERNEL_FILES, ...GRUB_FILES },
} as const;

/** QEMU's user network takes the guest's 10.0.2.2 to our 127.0.0.1. */
export const IN_QEMU: Stage = { make: makeVm, outside: '10.0.2.2', patienceMs: 240_000 };

/** A processor made of software needs longer to become healthy; settings of `updates:`. */
export const SLOW = { health_timeout: '180s' } as const;

async function makeVm(options: MachineOptions): Promise<Machine> {
  const bootFolder = join(options.folder, 'vm-boot');
  await cp(options.bootFolder, bootFolder, { recursive: true });
  await writeFile(join(bootFolder, 'grub/quantix-layout.cfg'), LAYOUT);
  const machine = await makeDisk({ ...options, bootFolder });
  await embedGrub(machine, options.folder);
  const place = { machine, logs: await logFolder(), count: 0 };
  return {
    ...machine,
    grub: () => untilKernel(place),
    boot: ({ mayEnd = false } = {}) => powerOn(place, mayEnd),
  };
}

// The settings of an operator who watches the host over a serial line.
const LAYOUT = 'set qx_serial=1\nset qx_timeout=0\nset qx_extra="console=ttyS0,115200"\n';

interface Place {
  readonly machine: MachineDisk;
  readonly logs: string;
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
const UP_TIMEOUT_MS = 180_000;
const RUN_TIMEOUT_MS = 300_000;

/** Up to where the kernel says what GRUB gave it. */
async function start(place: Place): Promise<Started> {
  place.count += 1;
  const name = `boot-${place.count}`;
  const startMs = performance.now();
  const qemu = await startQemu({ disk: place.machine.disk, logFile: join(place.logs, `${name}.log`) });
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
