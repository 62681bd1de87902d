import { QxError } from '../errors.ts';

/**
 * The GRUB environment block, and the boot state that we keep in it.
 *
 * A block is read exactly as GRUB 2.06 reads it, oddities included: if the two disagreed about a damaged copy, the agent
 * would reason about another boot than the one that happened. What GRUB accepts but we would not have written is a damage
 * that `agent/bootenv.ts` repairs.
 *
 * Values are bytes; here every byte is one character of a string (Latin-1), so that nothing is lost on the way through.
 */

export const SLOTS = ['A', 'B'] as const;
export type Slot = (typeof SLOTS)[number];

export interface SlotState {
  readonly ok: boolean;
  readonly tries: number;
}

export interface BootState {
  readonly order: readonly [Slot, Slot];
  readonly A: SlotState;
  readonly B: SlotState;
  /** Names the update whose slot is on trial; empty when none is. Only the first slot in order can be on trial. */
  readonly trial: string;
  /** The last trial that was given up. Never a slot letter: a letter could not tell this update from an earlier one. */
  readonly failed: string;
}

/** A whole physical sector or FAT cluster for each copy: writing one cannot tear the other. */
export const ENV_BYTES = 4096;
const MAX_ENV_BYTES = 65_536;
const MAGIC = '# GRUB Environment Block\n';
/** The bytes that a block begins with. */
export const ENV_SIGNATURE: Uint8Array = new TextEncoder().encode(MAGIC);

/** Fields hold no `|`, so a seal of this shape proves each single value; grub.cfg uses the same expression. */
export const SEAL_PATTERN = '^(A B|B A)[|][01][|][01][|][0-3][|][0-3][|]([a-z0-9]{8,32})?[|]([a-z0-9]{8,32})?$';

export type EnvBlock = ReadonlyMap<string, string>;

/** @throws QxError BOOT_ENV_INVALID, for nothing but what GRUB refuses too */
export function decodeBlock(bytes: Uint8Array): EnvBlock {
  if (bytes.length > MAX_ENV_BYTES) throw invalid(`has ${bytes.length} bytes, more than ${MAX_ENV_BYTES}`);
  const text = toText(bytes);
  if (!text.startsWith(MAGIC)) throw invalid('does not begin with the header of a GRUB environment block');
  const values = new Map<string, string>();
  for (let at = MAGIC.length; at < text.length; ) {
    const equals = text[at] === '#' ? -1 : text.indexOf('=', at);
    if (equals < 0 && text[at] !== '#') break;
    const end = lineEnd(text, equals < 0 ? at : equals + 1);
    // An unfinished last line is not a variable to GRUB either.
    if (end >= text.length) break;
    if (equals >= 0) values.set(cString(text.slice(at, equals)), cString(withoutEscapes(text.slice(equals + 1, end))));
    at = end + 1;
  }
  return values;
}

/** @throws QxError BOOT_ENV_INVALID when it does not fit or a name cannot be written */
export function encodeBlock(values: EnvBlock, sizeBytes: number = ENV_BYTES): Uint8Array {
  let text = MAGIC;
  for (const [name, value] of values) {
    if (!isName(name)) throw invalid(`cannot hold a variable named ${JSON.stringify(name)}`);
    text += `${name}=${value.replace(/[\\\n]/g, '\\$&')}\n`;
  }
  // GRUB finds its free space by the fill; without one byte of it a block can never grow again.
  if (text.length >= sizeBytes) throw invalid(`needs ${text.length + 1} bytes, has ${sizeBytes}`);
  return toBytes(text.padEnd(sizeBytes, '#'));
}

/** All values again in one string: a copy that was torn or flipped somewhere does not agree with its own seal. */
export const sealOf = (s: BootState): string =>
  [s.order.join(' '), bit(s.A.ok), bit(s.B.ok), s.A.tries, s.B.tries, s.trial, s.failed].join('|');

/** Null when GRUB would not use this copy: no block, a value that is not allowed, or a seal that differs. */
export function decodeBoot(bytes: Uint8Array): BootState | null {
  try {
    return bootState(decodeBlock(bytes));
  } catch (error) {
    if (error instanceof QxError && error.code === 'BOOT_ENV_INVALID') return null;
    throw error;
  }
}

/**
 * Our variables first, all within the first 512 bytes, so that no write torn at a sector splits them; then the variables of
 * `previous` that are not ours. Its size is kept when it is larger: a file must never shrink under GRUB.
 * @throws QxError BOOT_ENV_INVALID when the state is not one that GRUB accepts
 */
export function encodeBoot(state: BootState, previous?: Uint8Array | null, minBytes: number = ENV_BYTES): Uint8Array {
  const seal = sealOf(state);
  if (!new RegExp(SEAL_PATTERN).test(seal)) throw invalid(`cannot hold the state ${JSON.stringify(seal)}`);
  const values = new Map(variablesOf(state, seal));
  for (const [name, value] of previous ? foreign(previous) : []) values.set(name, value);
  return encodeBlock(values, Math.max(ENV_BYTES, Math.min(Math.max(minBytes, previous?.length ?? 0), MAX_ENV_BYTES)));
}

const variablesOf = (s: BootState, seal: string): readonly (readonly [string, string])[] => [
  ['quantix_order', s.order.join(' ')],
  ['quantix_a_ok', bit(s.A.ok)],
  ['quantix_b_ok', bit(s.B.ok)],
  ['quantix_a_tries', String(s.A.tries)],
  ['quantix_b_tries', String(s.B.tries)],
  ['quantix_trial', s.trial],
  ['quantix_failed', s.failed],
  ['quantix_seal', seal],
];

const OUR_FIELDS = ['order', 'a_ok', 'b_ok', 'a_tries', 'b_tries', 'trial', 'failed'] as const;
const OUR_NAMES: ReadonlySet<string> = new Set([...OUR_FIELDS, 'seal'].map((field) => `quantix_${field}`));

function bootState(values: EnvBlock): BootState | null {
  const get = (name: string): string => values.get(`quantix_${name}`) ?? '';
  const order: BootState['order'] = get('order') === 'A B' ? ['A', 'B'] : ['B', 'A'];
  const state: BootState = {
    order,
    A: { ok: get('a_ok') === '1', tries: Number(get('a_tries')) },
    B: { ok: get('b_ok') === '1', tries: Number(get('b_tries')) },
    trial: get('trial'),
    failed: get('failed'),
  };
  const fields = OUR_FIELDS.map(get).join('|');
  return get('seal') === fields && new RegExp(SEAL_PATTERN).test(fields) ? state : null;
}

/** The variables of other programs; what damage left behind (names that no one would choose) is dropped. */
function* foreign(bytes: Uint8Array): Generator<readonly [string, string]> {
  const isBlock = toText(bytes.subarray(0, MAGIC.length)) === MAGIC && bytes.length <= MAX_ENV_BYTES;
  for (const [name, value] of isBlock ? decodeBlock(bytes) : [])
    if (!OUR_NAMES.has(name) && isName(name)) yield [name, value];
}

/** A backslash takes the next byte along, whatever it is: how a value holds a newline, and how GRUB skips lines. */
function lineEnd(text: string, from: number): number {
  let at = from;
  while (at < text.length && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1;
  return at;
}

const withoutEscapes = (text: string): string => text.replace(/\\([\s\S])/g, '$1');
const cString = (text: string): string => text.split('\0', 1)[0] ?? '';
const isName = (name: string): boolean => /^[A-Za-z0-9_.-]{1,128}$/.test(name);
const bit = (value: boolean): string => (value ? '1' : '0');
const toText = (bytes: Uint8Array): string => bytes.reduce((text, byte) => text + String.fromCharCode(byte), '');
const toBytes = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));
const invalid = (why: string): QxError => new QxError('BOOT_ENV_INVALID', `the GRUB environment block ${why}`);
