/**
 * Changes of an input, as data: the fuzzer draws them from its random numbers, a property test from fast-check, which can then
 * shrink them.
 */

export interface Edit {
  readonly kind: (typeof KINDS)[number];
  /** Where it is made and where it copies from, as parts of the length: from 0 to less than 1. */
  readonly at: number;
  readonly from: number;
  readonly lengthBytes: number;
  /** Any number below 2^31: which bit, which token, how often. */
  readonly choice: number;
}

export const KINDS = [
  'flip',
  'byte',
  'insert',
  'delete',
  'copy',
  'overwrite',
  'token',
  'tokenOver',
  'splice',
  'integer',
  'value',
  'repeat',
] as const;

export interface Material {
  readonly dictionary: readonly string[];
  /** Another input, for splices. */
  readonly other: Uint8Array;
  readonly maxBytes: number;
}

const INTEGERS = [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
const NUMBERS = ['0', '1', '-1', '-0', '1e3', '0x10', '4294967296', '9007199254740991', '9007199254740993', '00', '.5'];
const VALUES = [...NUMBERS, 'null', 'true', '""', '"x"', '{}', '[]', '[0]', '{"a":[]}'];
/** Sector of a disk and block of a tar: half of the copies are made at their borders. */
const BLOCK = 512;

const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
const pick = <T>(items: readonly T[], choice: number): T | undefined => items[choice % Math.max(items.length, 1)];

export function applyEdit(bytes: Uint8Array, edit: Edit, material: Material): Uint8Array {
  return changed(bytes, edit, material).subarray(0, material.maxBytes);
}

function changed(bytes: Uint8Array, edit: Edit, { dictionary, other }: Material): Uint8Array {
  const { kind, choice } = edit;
  const isAligned = choice % 2 === 1 && bytes.length > BLOCK;
  const place = (part: number, length: number): number =>
    isAligned ? Math.floor((part * length) / BLOCK) * BLOCK : Math.floor(part * length);
  const at = place(edit.at, bytes.length + 1);
  const from = place(edit.from, bytes.length);
  const length = isAligned ? Math.ceil(edit.lengthBytes / BLOCK) * BLOCK : edit.lengthBytes;
  const put = (piece: Uint8Array, instead = 0): Uint8Array =>
    join(bytes.subarray(0, at), piece, bytes.subarray(at + instead));
  const token = Buffer.from(pick(dictionary, choice) ?? '', 'utf8');
  switch (kind) {
    case 'flip':
      return put(Uint8Array.of((bytes[at] ?? 0) ^ (1 << (choice % 8))), 1);
    case 'byte':
      return put(Uint8Array.of(choice), 1);
    case 'insert':
      return put(new Uint8Array(edit.lengthBytes).fill(choice));
    case 'delete':
      return put(new Uint8Array(0), length);
    case 'copy':
      return put(bytes.subarray(from, from + length));
    case 'overwrite':
      return put(bytes.subarray(from, from + length), length);
    case 'token':
      return put(token);
    case 'tokenOver':
      return put(token, token.length);
    case 'splice':
      return join(bytes.subarray(0, at), other.subarray(place(edit.from, other.length)));
    case 'integer':
      return put(integer(choice), integer(choice).length);
    case 'value':
      return otherValue(bytes, at, choice);
    case 'repeat':
      return put(join(...Array(1 + (choice % 64)).fill(bytes.subarray(at, at + length))));
  }
}

function integer(choice: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  const value = pick(INTEGERS, choice) ?? 0;
  const length = 2 ** ((choice >> 4) % 4);
  if ((choice >> 6) % 2 === 0) bytes.writeUInt32LE(value);
  else bytes.writeUInt32BE(value, Math.max(length - 4, 0));
  return bytes.subarray(0, length);
}

/** The number, or the value of a JSON member, that stands there or behind becomes another one. */
function otherValue(bytes: Uint8Array, at: number, choice: number): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1');
  const match = /(?<=:)\s*(?:"[^"]*"|null|true|false)|-?[0-9]+/.exec(text.slice(at));
  if (match === null) return bytes;
  const start = at + match.index;
  return Buffer.from(text.slice(0, start) + pick(VALUES, choice) + text.slice(start + match[0].length), 'latin1');
}
