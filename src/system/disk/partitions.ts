import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Partition } from '../../core/disks.ts';
import { ENV_BYTES, ENV_SIGNATURE } from '../../format/grubenv.ts';
import { type Mount, mountOf } from '../../format/mountinfo.ts';
import { readPartitionTable, TABLE_BYTES, type TableEntry } from '../../format/partition-table.ts';
import { ext4Label, LAYOUT_BYTES } from '../../format/slot-layout.ts';
import type { Disks } from '../../ports/disks.ts';
import { hasCode } from '../durable.ts';
import { hostPath } from '../host-path.ts';

/** The block devices of the host below `root`, out of /sys: the links in /dev/disk name one of several, the last that came. */
export function hostDisks(root: string): Disks {
  const at = (path: string): string => hostPath(root, path);
  return {
    look: async () => {
      const devices = await blockDevices(at);
      if (devices === null) return null;
      return { partitions: await partitionsOf(at, devices), boot: await deviceOf(at, '/boot/grub', devices) };
    },
    isLasting: async (path) => {
      const mount = await mountAt(at, path);
      return mount && !VANISHING.has(mount.type);
    },
    resolve: (path) =>
      realpath(at(path)).then(
        (real) => real.slice(root.replace(/\/+$/, '').length),
        () => null,
      ),
    isInUse: (device) => isInUse(at(device)),
    environmentsOn: (device) => environmentsOn(at(device)),
  };
}

type At = (path: string) => string;

interface BlockDevice {
  readonly name: string;
  readonly number: string;
  /** The whole disk that it is, or lies on. */
  readonly disk: string;
  /** In the table of its disk; null for a whole disk. */
  readonly partition: number | null;
  /** A RAID of partitions is what is mounted, and written to, in place of each of them; null for anything else. */
  readonly array: string | null;
  /** Made by the kernel out of something else: what a guest has for a disk is one. */
  readonly isVirtual: boolean;
}

const CLASS = '/sys/class/block';

async function blockDevices(at: At): Promise<readonly BlockDevice[] | null> {
  const names = await readdir(at(CLASS)).catch(() => null);
  if (names === null) return null;
  const found = await Promise.all(names.map((name) => blockDevice(at, name)));
  return found.filter((device) => device !== null);
}

async function blockDevice(at: At, name: string): Promise<BlockDevice | null> {
  const attribute = (path: string): Promise<string | null> =>
    readFile(at(`${CLASS}/${name}/${path}`), 'utf8').then(
      (text) => text.trim(),
      () => null,
    );
  const [number, size, index] = await Promise.all([attribute('dev'), attribute('size'), attribute('partition')]);
  if (number === null || size === '0') return null;
  const path = await realpath(at(`${CLASS}/${name}`));
  const array = index === null ? null : await arrayOver(at, name);
  const device = { name, number, array, isVirtual: path.includes('/devices/virtual/') };
  // Two loop devices over one file are parts of the same disk.
  const backing = await attribute('loop/backing_file');
  if (backing !== null) return { ...device, disk: backing, partition: null };
  if (index !== null) return { ...device, disk: basename(dirname(path)), partition: Number(index) };
  // Partitions of a disk with several paths to it are made by device-mapper, and called after their number.
  const mapped = /^part(\d+)-/.exec((await attribute('dm/uuid')) ?? '')?.[1];
  const [disk] = mapped === undefined ? [] : await listed(at(`${CLASS}/${name}/slaves`));
  return { ...device, disk: disk ?? name, partition: disk === undefined ? null : Number(mapped) };
}

async function arrayOver(at: At, name: string): Promise<string | null> {
  for (const holder of await listed(at(`${CLASS}/${name}/holders`))) {
    if ((await listed(at(`${CLASS}/${holder}/md`))).length > 0) return holder;
  }
  return null;
}

const listed = (path: string): Promise<readonly string[]> => readdir(path).catch(() => []);

/** Members of a RAID, and the paths that lead to one disk, have its table too: what is built on them is the disk. */
async function partitionsOf(at: At, devices: readonly BlockDevice[]): Promise<readonly Partition[]> {
  const divided = new Set(devices.filter(({ partition }) => partition !== null).map(({ disk }) => disk));
  const tables = new Map<string, readonly TableEntry[] | null>();
  for (const disk of divided) tables.set(disk, await tableOf(at, disk));
  const arrays = new Set(devices.map(({ array }) => array));
  const found: Partition[] = [];
  for (const device of devices) {
    if (divided.has(device.name) || arrays.has(device.name) || (await isMember(at, device, devices))) continue;
    found.push(await partitionOf(at, device, tables.get(device.disk) ?? null));
  }
  return found.sort((a, b) => (a.device < b.device ? -1 : 1));
}

async function isMember(at: At, { disk }: BlockDevice, devices: readonly BlockDevice[]): Promise<boolean> {
  const holders = disk.startsWith('/') ? [] : await listed(at(`${CLASS}/${disk}/holders`));
  return holders.some((name) => devices.some((device) => device.name === name && device.disk !== disk));
}

async function partitionOf(
  at: At,
  { name, disk, partition, array, isVirtual }: BlockDevice,
  table: readonly TableEntry[] | null,
): Promise<Partition> {
  const entry = table?.find(({ number }) => number === partition);
  const device = deviceNamed(array ?? name);
  // A guest may write what it likes to its own disk, and a label there must not stop its host.
  const isRead = partition !== null || !isVirtual;
  const start = isRead ? await readStart(at(device), LAYOUT_BYTES) : null;
  const systemLabel = start === null ? null : ext4Label(start);
  return {
    device,
    disk: disk.startsWith('/') ? disk : deviceNamed(disk),
    uuid: entry?.uuid ?? null,
    label: entry?.label ?? null,
    systemLabel,
  };
}

/** A slash in the name of a device is an exclamation mark in /sys. */
const deviceNamed = (name: string): string => `/dev/${name.replaceAll('!', '/')}`;

/** Null where the disk cannot be read. */
async function tableOf(at: At, name: string): Promise<readonly TableEntry[] | null> {
  const size = await readFile(at(`${CLASS}/${name}/queue/logical_block_size`), 'utf8').catch(() => '512');
  const start = await readStart(at(deviceNamed(name)), TABLE_BYTES);
  return start === null ? null : readPartitionTable(start, Number(size));
}

async function readStart(path: string, lengthBytes: number): Promise<Uint8Array | null> {
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return null;
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(lengthBytes), 0, lengthBytes, 0);
    return buffer.subarray(0, bytesRead);
  } catch {
    return null;
  } finally {
    await file.close();
  }
}

/** The device that is mounted where `path` lies. */
async function deviceOf(at: At, path: string, devices: readonly BlockDevice[]): Promise<string | null> {
  const mount = await mountAt(at, path);
  if (mount === null) return null;
  const known = devices.find(({ number }) => number === mount.number);
  if (known !== undefined) return deviceNamed(known.name);
  // A file system of several devices has a number of its own.
  return mount.source.startsWith('/dev/') ? realpath(at(mount.source)).catch(() => mount.source) : null;
}

const mountAt = async (at: At, path: string): Promise<Mount | null> =>
  mountOf(await readFile(at('/proc/self/mountinfo'), 'utf8').catch(() => ''), path);

/** An overlay has its upper half in memory, or the image would not be one. */
const VANISHING: ReadonlySet<string> = new Set(['overlay', 'tmpfs', 'ramfs', 'rootfs', 'squashfs', 'erofs', 'iso9660']);

async function isInUse(path: string): Promise<boolean> {
  try {
    await (await open(path, constants.O_RDONLY | constants.O_EXCL)).close();
    return false;
  } catch (error) {
    return hasCode(error, 'EBUSY');
  }
}

const PIECE_BYTES = 1 << 20;
/** File systems begin their blocks at a multiple of this. */
const STEP_BYTES = 512;
const MAX_FOUND = 64;

async function environmentsOn(path: string): Promise<readonly Uint8Array[]> {
  const file = await open(path, 'r');
  try {
    return await scan(file);
  } finally {
    await file.close();
  }
}

async function scan(file: FileHandle): Promise<readonly Uint8Array[]> {
  const found: Uint8Array[] = [];
  const memory = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; found.length < MAX_FOUND; ) {
    const { bytesRead } = await file.read(memory, 0, PIECE_BYTES, at);
    for (let i = 0; i + ENV_BYTES <= bytesRead; i += STEP_BYTES) {
      if (memory.compare(ENV_SIGNATURE, 0, ENV_SIGNATURE.length, i, i + ENV_SIGNATURE.length) === 0)
        found.push(Uint8Array.from(memory.subarray(i, i + ENV_BYTES)));
    }
    if (bytesRead < PIECE_BYTES) return found;
    // What begins at the end of this piece is whole in the next one.
    at += PIECE_BYTES - ENV_BYTES + STEP_BYTES;
  }
  return found;
}
