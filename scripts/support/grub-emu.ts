import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { keyboardOf, type Typist } from './keyboard.ts';
import { plain } from './terminal.ts';

/**
 * Runs a grub.cfg in the real GRUB (Debian's grub-emu) on disk images, without a virtual machine.
 *
 * grub-emu has no `linux` and `initrd`. Functions of those names read their files, as the commands would, and write down on
 * a disk of their own what would have booted; terminal output is wrapped and cannot be trusted for that. The files are read
 * by sha256sum, because GRUB's cmp runs for ever on a file that cannot be read.
 */

export const GRUB_COMMANDS = ['grub-emu', 'mke2fs', 'debugfs'] as const;

export interface GrubRun {
  /** Null when GRUB booted nothing. */
  readonly kernel: { readonly path: string; readonly cmdline: string; readonly initramfs: string } | null;
  /** What GRUB printed, without terminal control sequences. */
  readonly output: string;
}

export interface GrubOptions {
  /** Image files, seen by GRUB as hd0, hd1, ... */
  readonly disks: readonly string[];
  /** The device that holds the folder `grub`, as GRUB's core image would set it. */
  readonly root: string;
  /** Id of the menu entry that a person picks; without it the default runs. */
  readonly entry?: string;
  /** On `root`; /grub/grub.cfg where not given. */
  readonly configPath?: string;
  /** Devices, as `(hd0,gpt2)`, whose kernel and initramfs need not be read to their last byte: they were before. */
  readonly known?: readonly string[];
  /** Who sits at the keyboard. Without anybody GRUB does not listen. */
  readonly typist?: Typist;
}

const BLOCK_BYTES = 4096;
const RUN_TIMEOUT_MS = 20_000;
/** GRUB's own promise is a minute. */
const TYPED_TIMEOUT_MS = 60_000;

/** An ext4 image that holds a folder's files. Blocks of 4 KiB: an environment copy is exactly one. */
export async function makeExt4(folder: string, image: string, sizeMib: number, label = ''): Promise<void> {
  const options = ['-q', '-F', '-t', 'ext4', '-b', String(BLOCK_BYTES), '-m', '0', '-L', label, '-d', folder];
  await execa('mke2fs', [...options, image, `${sizeMib}M`]);
}

/** A file of one block inside an ext4 image, read and written where it lies: what GRUB sees, no mount needed. */
export interface BlockFile {
  read(): Promise<Uint8Array>;
  write(bytes: Uint8Array): Promise<void>;
}

export async function blockFile(image: string, path: string): Promise<BlockFile> {
  const { stdout } = await execa('debugfs', ['-R', `bmap ${path} 0`, image]);
  const block = Number(stdout.trim());
  if (!Number.isSafeInteger(block) || block <= 0) throw new Error(`${path} has no block in ${image}: ${stdout}`);
  const position = block * BLOCK_BYTES;
  return {
    read: () =>
      withImage(image, async (file) => {
        const bytes = new Uint8Array(BLOCK_BYTES);
        await file.read(bytes, 0, BLOCK_BYTES, position);
        return bytes;
      }),
    write: (bytes) =>
      withImage(image, async (file) => {
        if (bytes.length !== BLOCK_BYTES) throw new Error(`${path} must stay at ${BLOCK_BYTES} bytes`);
        await file.write(bytes, 0, BLOCK_BYTES, position);
      }),
  };
}

/** Prepares a folder for runs, which must follow each other; make several folders for runs side by side. */
export async function grubMachine(folder: string): Promise<(options: GrubOptions) => Promise<GrubRun>> {
  const image = join(folder, 'record.img');
  const recordFolder = join(folder, 'record');
  await mkdir(recordFolder);
  await writeFile(join(recordFolder, 'record'), emptyBlock());
  await makeExt4(recordFolder, image, 1);
  const record = await blockFile(image, '/record');
  return async (options) => {
    await record.write(emptyBlock());
    const disks = [...options.disks, image];
    await writeFile(join(folder, 'device.map'), disks.map((path, n) => `(hd${n}) ${path}\n`).join(''));
    await writeFile(join(folder, 'grub.cfg'), stub(options, `hd${disks.length - 1}`));
    const output = await grubEmu(folder, options.typist);
    return { kernel: recorded(await record.read()), output };
  };
}

async function grubEmu(folder: string, typist?: Typist): Promise<string> {
  const grub = execa('grub-emu', ['-d', folder, '-m', join(folder, 'device.map')], {
    all: true,
    reject: false,
    timeout: typist === undefined ? RUN_TIMEOUT_MS : TYPED_TIMEOUT_MS,
    forceKillAfterDelay: 100,
    maxBuffer: 1 << 20,
    env: { TERM: 'linux' },
  });
  if (typist === undefined) grub.stdin.end();
  const [result] = await Promise.all([grub, typist?.(keyboardOf(grub.all, grub.stdin, grub))]);
  const output = plain(result.all ?? '');
  if (result.timedOut || result.isMaxBuffer) throw new Error(`grub-emu did not end by itself:\n${output.slice(-2000)}`);
  return output;
}

const stub = (options: GrubOptions, recordDisk: string): string => `
function read_whole {
  ${readWhole(options)}
}
function testspeed {
  read_whole "$1"
}
function linux {
  if [ -n "$qxrec_linux" ]; then
    echo "a second kernel: GRUB 2.06 would hang in it"
    exit
  fi
  if read_whole "$1"; then set qxrec_linux="$*"; true; else false; fi
}
function initrd {
  if read_whole "$1"; then
    set qxrec_initrd="$*"
    save_env --file (${recordDisk})/record qxrec_linux qxrec_initrd
    exit
  else false; fi
}
${options.typist === undefined ? 'set qx_timeout=0' : ''}
set root=${options.root}
set prefix=(${options.root})/grub
source (${options.root})${options.configPath ?? '/grub/grub.cfg'}
${options.entry === undefined ? '' : `set default=${options.entry}`}
${options.typist === undefined ? 'set timeout=0' : ''}
`;

function readWhole({ known = [] }: GrubOptions): string {
  const whole = known.flatMap((device) => ['vmlinuz', 'initramfs'].map((name) => `"$1" = "${device}/boot/${name}"`));
  if (whole.length === 0) return 'sha256sum "$1"';
  return `if [ ${whole.join(' -o ')} ]; then test -f "$1"; else sha256sum "$1"; fi`;
}

function recorded(block: Uint8Array): GrubRun['kernel'] {
  const lines = new TextDecoder().decode(block).split('\n');
  const value = (name: string) => lines.find((line) => line.startsWith(`${name}=`))?.slice(name.length + 1);
  const [linux, initramfs] = [value('qxrec_linux'), value('qxrec_initrd')];
  if (linux === undefined || initramfs === undefined) return null;
  const [path = '', ...words] = linux.split(' ');
  return { path, cmdline: words.join(' '), initramfs };
}

async function withImage<T>(image: string, use: (file: Awaited<ReturnType<typeof open>>) => Promise<T>): Promise<T> {
  const file = await open(image, 'r+');
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

const emptyBlock = (): Uint8Array => new TextEncoder().encode('# GRUB Environment Block\n'.padEnd(BLOCK_BYTES, '#'));
