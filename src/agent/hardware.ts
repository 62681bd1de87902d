import { posix } from 'node:path';
import { usableMark } from '../core/same-machine.ts';
import type { Hardware } from '../format/host-identity.ts';
import { mountOf } from '../format/mountinfo.ts';
import type { Files } from '../ports.ts';

/** What tells this machine from another one, as its kernel knows it. What cannot be read is not known, and no failure. */

const MAX_BYTES = 4096;
const MAX_TABLE_BYTES = 4 << 20;
const DMI = '/sys/class/dmi/id';
const CARDS = '/sys/class/net';
const BLOCK = '/sys/class/block';
const STATE = '/quantix';

export async function readHardware(files: Files): Promise<Hardware> {
  const [uuid, board, cards, disks] = await Promise.all([
    firstMark(files, [`${DMI}/product_uuid`]),
    firstMark(files, [`${DMI}/board_serial`]),
    cardsOf(files),
    disksOf(files),
  ]);
  return { uuid: uuid?.toLowerCase() ?? null, board, cards, disks };
}

/** Some of it is for root alone, some files answer with an error where a device is gone. */
const textOf = async (files: Files, path: string, maxBytes = MAX_BYTES): Promise<string> =>
  new TextDecoder().decode((await files.read(path, maxBytes).catch(() => null)) ?? new Uint8Array()).trim();

const namesIn = (files: Files, folder: string): Promise<readonly string[]> => files.list(folder).catch(() => []);

async function firstMark(files: Files, paths: readonly string[]): Promise<string | null> {
  for (const path of paths) {
    const mark = usableMark(await textOf(files, path));
    if (mark !== null) return mark;
  }
  return null;
}

const sorted = (marks: readonly (string | null)[]): string[] =>
  [...new Set(marks.filter((mark) => mark !== null))].sort();

const isThere = async (files: Files, path: string): Promise<boolean> =>
  (await files.info(path).catch(() => null)) !== null;

async function cardsOf(files: Files): Promise<string[]> {
  const names = await namesIn(files, CARDS);
  return sorted(await Promise.all(names.map((name) => addressOf(files, `${CARDS}/${name}`))));
}

/** A bridge or a tap has no device below it; a card in a bond carries the address of the bond, and keeps its own beside it. */
async function addressOf(files: Files, card: string): Promise<string | null> {
  if (!(await isThere(files, `${card}/device`))) return null;
  const own = await firstMark(files, [`${card}/bonding_slave/perm_hwaddr`]);
  if (own !== null) return own.toLowerCase();
  // Anything but 0 was made up, or set by somebody: it may be another one tomorrow.
  if (!['0', ''].includes(await textOf(files, `${card}/addr_assign_type`))) return null;
  return usableMark((await textOf(files, `${card}/address`)).toLowerCase());
}

async function disksOf(files: Files): Promise<string[]> {
  const device = deviceOf(await textOf(files, '/proc/self/mountinfo', MAX_TABLE_BYTES));
  const top = device === null ? null : await resolved(files, device);
  return top === null ? [] : sorted(await serialsBelow(files, top, 0));
}

/** Of the file system that holds /quantix, as a path in /sys that may be a link. */
function deviceOf(mountinfo: string): string | null {
  const mount = mountOf(mountinfo, STATE);
  if (mount === null) return null;
  // A btrfs has a number of its own, and names its disk.
  return mount.number.startsWith('0:') ? `${BLOCK}/${posix.basename(mount.source)}` : `/sys/dev/block/${mount.number}`;
}

async function resolved(files: Files, path: string): Promise<string | null> {
  const target = await files.readLink(path).catch(() => null);
  if (target !== null) return posix.resolve(posix.dirname(path), target);
  return (await isThere(files, path)) ? path : null;
}

const MAX_DEPTH = 8;

/** Through partitions, RAID, LVM and encryption down to the disks. */
async function serialsBelow(files: Files, device: string, depth: number): Promise<(string | null)[]> {
  if (depth > MAX_DEPTH) return [];
  const disk = (await isThere(files, `${device}/partition`)) ? posix.dirname(device) : device;
  const below = await namesIn(files, `${disk}/slaves`);
  if (below.length === 0) {
    const names = ['wwid', 'device/wwid', 'device/serial', 'serial', 'device/cid'];
    return [
      await firstMark(
        files,
        names.map((name) => `${disk}/${name}`),
      ),
    ];
  }
  const parts = await Promise.all(below.map((name) => resolved(files, `${BLOCK}/${name}`)));
  const found = await Promise.all(parts.map((part) => (part === null ? [] : serialsBelow(files, part, depth + 1))));
  return found.flat();
}
