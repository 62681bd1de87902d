import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** Debian's kernel for virtual machines, as scripts/vm-packages.sh unpacked it. */

const FOLDER = 'node_modules/.cache/quantix-vm/kernel';

/** What `requires` asks for. */
export const KERNEL_FILES = { [join(FOLDER, 'release')]: 'scripts/vm-packages.sh' } as const;

/** ext4, the serial ports and the clock are built in; FAT needs its two tables of letters. */
const MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_console',
  'squashfs',
  'loop',
  'overlay',
  'nls_cp437',
  'nls_ascii',
  'vfat',
];

export interface Kernel {
  readonly vmlinuz: string;
  /** Files of modules, each after those that it needs. */
  readonly modules: readonly string[];
}

/** `more` are modules of which a machine has no need. */
export async function debianKernel(more: readonly string[] = []): Promise<Kernel> {
  const release = (await readFile(join(FOLDER, 'release'), 'utf8')).trim();
  const modulesFolder = join(FOLDER, 'lib/modules', release);
  const needs = parseDependencies(await readFile(join(modulesFolder, 'modules.dep'), 'utf8'));
  const modules = new Set<string>();
  for (const name of [...MODULES, ...more]) {
    const path = [...needs.keys()].find((candidate) => basename(candidate) === `${name}.ko`);
    if (path === undefined) throw new Error(`kernel ${release} has no module ${name}`);
    for (const module of inLoadingOrder(needs, path)) modules.add(join(modulesFolder, module));
  }
  return { vmlinuz: join(FOLDER, 'boot', `vmlinuz-${release}`), modules: [...modules] };
}

const parseDependencies = (text: string): ReadonlyMap<string, readonly string[]> =>
  new Map(
    text.split('\n').flatMap((line) => {
      const [path, needed] = line.split(':');
      return path === undefined || needed === undefined ? [] : [[path, needed.split(' ').filter(Boolean)] as const];
    }),
  );

const inLoadingOrder = (needs: ReadonlyMap<string, readonly string[]>, path: string): string[] => [
  ...(needs.get(path) ?? []).flatMap((needed) => inLoadingOrder(needs, needed)),
  path,
];
