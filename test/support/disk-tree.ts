import { mkdir, rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';

/** Disks of a host in a folder: a real partition table in a file of /dev, and what the kernel says of it in /sys and /proc. */

const MIB = 1 << 20;
const SECTORS = 2048;

export interface TreePartition {
  readonly label?: string;
  /** A PARTUUID. */
  readonly uuid: string;
  /** A file of the host that becomes the device, and a link to it; an empty device without it. */
  readonly content?: string;
  readonly bytes?: Uint8Array;
}

/** Each partition gets the number major:N, by which it can be mounted. */
export async function addDisk(
  root: string,
  name: string,
  major: number,
  partitions: readonly TreePartition[],
): Promise<void> {
  const at = (path: string): string => join(root, path);
  const disk = at(`dev/${name}`);
  await mkdir(at('dev'), { recursive: true });
  await writeFile(disk, '');
  await truncate(disk, (partitions.length + 2) * MIB);
  const lines = partitions.map(
    ({ label, uuid }) => `size=1MiB, uuid=${uuid}${label === undefined ? '' : `, name=${label}`}`,
  );
  await execa('sfdisk', ['--quiet', disk], { input: `label: gpt\n${lines.join('\n')}\n` });
  const whole = `sys/devices/pci/block/${name}`;
  await addBlock(root, whole, { dev: `${major}:0`, size: String((partitions.length + 2) * SECTORS) });
  for (const [i, { content, bytes }] of partitions.entries()) {
    const part = `${name}${i + 1}`;
    await addBlock(root, `${whole}/${part}`, {
      dev: `${major}:${i + 1}`,
      size: String(SECTORS),
      partition: String(i + 1),
    });
    if (content !== undefined) {
      await rename(at(content), at(`dev/${part}`));
      await symlink(join('../dev', part), at(content));
    } else await writeFile(at(`dev/${part}`), bytes ?? new Uint8Array(MIB));
  }
}

/** `path`: of the device below /sys/devices; its attributes as files. */
export async function addBlock(
  root: string,
  path: string,
  attributes: Readonly<Record<string, string>>,
): Promise<void> {
  await addAttributes(root, path, attributes);
  const classes = join(root, 'sys/class/block');
  await mkdir(classes, { recursive: true });
  await symlink(join('../../..', path), join(classes, path.split('/').at(-1) ?? ''));
}

export async function addAttributes(
  root: string,
  path: string,
  attributes: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [attribute, value] of Object.entries(attributes)) {
    const file = join(root, path, attribute);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, `${value}\n`);
  }
}

/** Device numbers by where they are mounted, in this order; one of no disk (0:N) is of the type `others`. */
export async function mount(
  root: string,
  mounts: readonly (readonly [point: string, number: string, source?: string])[],
  others = 'overlay',
): Promise<void> {
  const lines = mounts.map(([point, number, source = 'none'], i) => {
    const type = number.startsWith('0:') && !source.startsWith('/dev/') ? others : 'ext4';
    return `${i + 20} 1 ${number} / ${point} rw - ${type} ${source} rw\n`;
  });
  await mkdir(join(root, 'proc/self'), { recursive: true });
  await writeFile(join(root, 'proc/self/mountinfo'), lines.join(''));
}

/** As a host has it; /boot from this device. */
export const mountBoot = (root: string, number: string): Promise<void> =>
  mount(root, [
    ['/', '0:20'],
    ['/boot', number],
    ['/quantix', '8:4'],
    ['/data', '8:5'],
  ]);
