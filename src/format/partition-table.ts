/**
 * What a disk says of its partitions, as far as it takes to tell them apart: GPT (UEFI specification 2.10, section 5.3) and
 * the older table of a PC. GRUB's `probe --part-uuid` and the kernel's `PARTUUID=` write the same ids.
 */

export interface TableEntry {
  readonly number: number;
  /** Lower case; of a PC's table the signature of the disk and the number. */
  readonly uuid: string;
  /** A PC's table has none. */
  readonly label: string | null;
}

/** Enough to know either table, at the largest size of a sector in use. */
export const TABLE_BYTES = 128 << 10;

/** Empty where there is no table that can be read. */
export function readPartitionTable(start: Uint8Array, sectorBytes: number): readonly TableEntry[] {
  return readGpt(start, sectorBytes) ?? readPc(start) ?? [];
}

const SIGNATURE = 'EFI PART';
const MAX_ENTRIES = 1024;
const MIN_ENTRY_BYTES = 128;

function readGpt(start: Uint8Array, sectorBytes: number): readonly TableEntry[] | null {
  const header = viewOf(start, sectorBytes, 92);
  if (header === null || text(start.subarray(sectorBytes, sectorBytes + SIGNATURE.length)) !== SIGNATURE) return null;
  const at = Number(header.getBigUint64(72, true)) * sectorBytes;
  const [count, entryBytes] = [Math.min(header.getUint32(80, true), MAX_ENTRIES), header.getUint32(84, true)];
  if (entryBytes < MIN_ENTRY_BYTES) return null;
  const found: TableEntry[] = [];
  for (let i = 0; i < count; i++) {
    const entry = viewOf(start, at + i * entryBytes, MIN_ENTRY_BYTES);
    if (entry === null) break;
    if (entry.getBigUint64(0) === 0n && entry.getBigUint64(8) === 0n) continue;
    found.push({ number: i + 1, uuid: guid(entry, 16), label: name(entry) });
  }
  return found;
}

const PC_ENTRIES_AT = 446;
const PC_MARK_AT = 510;
const PC_MARK = 0xaa55;
/** The whole disk is one partition of a GPT, which is damaged then. */
const PROTECTIVE = 0xee;

function readPc(start: Uint8Array): readonly TableEntry[] | null {
  const sector = viewOf(start, 0, 512);
  if (sector === null || sector.getUint16(PC_MARK_AT, true) !== PC_MARK) return null;
  const disk = hex(sector.getUint32(440, true), 8);
  const kinds = [1, 2, 3, 4].map((number) => ({ number, kind: sector.getUint8(PC_ENTRIES_AT + 16 * number - 12) }));
  // A boot sector of a file system ends with the same mark, and has no such table.
  if (kinds.some(({ kind }) => kind === PROTECTIVE) || disk === '00000000') return null;
  return kinds
    .filter(({ kind }) => kind !== 0)
    .map(({ number }) => ({ number, uuid: `${disk}-${hex(number, 2)}`, label: null }));
}

/** Null where it would reach over the end. */
const viewOf = (bytes: Uint8Array, at: number, length: number): DataView | null =>
  at >= 0 && at + length <= bytes.length ? new DataView(bytes.buffer, bytes.byteOffset + at, length) : null;

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

const text = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

/** The first three groups are stored with their lowest byte first. */
function guid(entry: DataView, at: number): string {
  const last = [...new Uint8Array(entry.buffer, entry.byteOffset + at + 8, 8)].map((byte) => hex(byte, 2)).join('');
  const first = [hex(entry.getUint32(at, true), 8), hex(entry.getUint16(at + 4, true), 4)];
  return [...first, hex(entry.getUint16(at + 6, true), 4), last.slice(0, 4), last.slice(4)].join('-');
}

const NAME_AT = 56;
const NAME_UNITS = 36;

function name(entry: DataView): string | null {
  const units = Array.from({ length: NAME_UNITS }, (_, i) => entry.getUint16(NAME_AT + 2 * i, true));
  const end = units.indexOf(0);
  return String.fromCharCode(...(end < 0 ? units : units.slice(0, end))) || null;
}
