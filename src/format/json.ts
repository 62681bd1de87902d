import { QxError } from '../errors.ts';

/**
 * A strict, bounded JSON reader for bytes that somebody signed, or that somebody might have tampered with.
 *
 * `JSON.parse` lets the last of two equal keys win, rounds numbers, and keeps lone surrogates: two readers may then see two
 * different documents under one signature. This one refuses whatever could be read in two ways (duplicate keys, fractions,
 * exponents, -0, unsafe integers, lone surrogates, strings that are not NFC, a byte order mark, anything after the value),
 * and whatever could exhaust the reader (size, depth).
 */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export interface JsonLimits {
  readonly maxBytes: number;
  readonly maxDepth: number;
}

export interface ParsedJson {
  readonly value: Json;
  /** Byte range `[start, end)` of each member of the top-level object: the exact bytes that were sent. */
  readonly members: ReadonlyMap<string, readonly [start: number, end: number]>;
}

/** 1 MiB and 16 levels: a manifest of a thousand components has some 400 KB and 5 levels. */
export const DOCUMENT_LIMITS: JsonLimits = { maxBytes: 1 << 20, maxDepth: 16 };

/** @throws SyntaxError naming the byte offset and the reason; never anything else. */
export function parseStrict(bytes: Uint8Array, limits: JsonLimits = DOCUMENT_LIMITS): ParsedJson {
  if (bytes.length > limits.maxBytes) throw new SyntaxError(`document is larger than ${limits.maxBytes} bytes`);
  const reader = new Reader(bytes, limits.maxDepth);
  return reader.document();
}

/** As `parseStrict`, with a refusal of the caller's code instead of a SyntaxError. */
export function readJson(
  bytes: Uint8Array,
  what: string,
  code: 'ENVELOPE_MALFORMED' | 'STATE_INVALID' | 'KEYRING_INVALID' | 'AUDIT_BROKEN',
) {
  try {
    return parseStrict(bytes);
  } catch (error) {
    throw new QxError(code, `${what} is not acceptable JSON: ${(error as Error).message}`, { cause: error });
  }
}

const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d]);
const NUMBER = /(?:0|-?[1-9][0-9]*)/y;
const NUMBER_WINDOW = 24;
/** Normalising sorts each run of marks in quadratic time: 1 MiB of them took over a minute. No script needs 30 (UAX 15). */
const MARKS = /\p{M}{31}/u;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

class Reader {
  private at = 0;
  private depth = 0;
  private readonly members = new Map<string, readonly [number, number]>();
  private readonly bytes: Uint8Array;
  private readonly maxDepth: number;

  constructor(bytes: Uint8Array, maxDepth: number) {
    this.bytes = bytes;
    this.maxDepth = maxDepth;
  }

  document(): ParsedJson {
    const value = this.value();
    this.space();
    if (this.at !== this.bytes.length) this.fail('unexpected bytes after the document');
    return { value, members: this.members };
  }

  private fail(reason: string): never {
    throw new SyntaxError(`${reason} at byte ${this.at}`);
  }

  private space(): void {
    while (SPACE.has(this.bytes[this.at] ?? 0)) this.at++;
  }

  private peek(): string {
    this.space();
    return String.fromCharCode(this.bytes[this.at] ?? 0);
  }

  private take(char: string): void {
    if (this.peek() !== char) this.fail(`expected ${char}`);
    this.at++;
  }

  private value(): Json {
    const char = this.peek();
    if (char === '{') return this.nested(() => this.object());
    if (char === '[') return this.nested(() => this.array());
    if (char === '"') return this.string();
    if (char === 't') return this.word('true', true);
    if (char === 'f') return this.word('false', false);
    if (char === 'n') return this.word('null', null);
    return this.number();
  }

  private nested<T>(read: () => T): T {
    if (++this.depth > this.maxDepth) this.fail(`more than ${this.maxDepth} levels deep`);
    const value = read();
    this.depth--;
    return value;
  }

  private word<T extends Json>(word: string, value: T): T {
    if (this.ascii(word.length) !== word) this.fail('unexpected word');
    this.at += word.length;
    return value;
  }

  private ascii(length: number): string {
    return String.fromCharCode(...this.bytes.subarray(this.at, this.at + length));
  }

  private number(): number {
    NUMBER.lastIndex = 0;
    const text = NUMBER.exec(this.ascii(NUMBER_WINDOW))?.[0];
    if (text === undefined) this.fail('expected a value');
    const value = Number(text);
    if (!Number.isSafeInteger(value)) this.fail('number is not a safe integer');
    this.at += text.length;
    if ('.eE0123456789+-'.includes(String.fromCharCode(this.bytes[this.at] ?? 0))) {
      if (this.at < this.bytes.length) this.fail('only plain integers are accepted');
    }
    return value;
  }

  private array(): Json[] {
    this.take('[');
    const items: Json[] = [];
    if (this.peek() === ']') {
      this.at++;
      return items;
    }
    for (;;) {
      items.push(this.value());
      if (this.peek() === ']') break;
      this.take(',');
    }
    this.at++;
    return items;
  }

  private object(): { [key: string]: Json } {
    this.take('{');
    const isTop = this.depth === 1;
    const entries = new Map<string, Json>();
    while (this.peek() !== '}') {
      if (entries.size > 0) this.take(',');
      this.space();
      const key = this.string();
      if (key === '__proto__') this.fail('key __proto__ is not allowed');
      if (entries.has(key)) this.fail(`key ${JSON.stringify(key)} appears twice`);
      this.take(':');
      this.space();
      const start = this.at;
      entries.set(key, this.value());
      if (isTop) this.members.set(key, [start, this.at]);
    }
    this.at++;
    return Object.fromEntries(entries);
  }

  private string(): string {
    if (this.bytes[this.at] !== 0x22) this.fail('expected a string');
    this.at++;
    let text = '';
    for (;;) {
      const start = this.at;
      while (!this.endsRun()) this.at++;
      text += this.utf8(start);
      if (this.bytes[this.at] === 0x22) break;
      text += this.escape();
    }
    this.at++;
    if (!text.isWellFormed()) this.fail('string has a lone surrogate');
    if (MARKS.test(text)) this.fail('string has more than 30 combining marks in a row');
    if (text !== text.normalize('NFC')) this.fail('string is not in Unicode normal form C');
    return text;
  }

  private endsRun(): boolean {
    const byte = this.bytes[this.at];
    if (byte === undefined) this.fail('string does not end');
    if (byte < 0x20) this.fail('control character in a string');
    return byte === 0x22 || byte === 0x5c;
  }

  private utf8(start: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.bytes.subarray(start, this.at));
    } catch {
      return this.fail('string is not UTF-8');
    }
  }

  private escape(): string {
    const kind = String.fromCharCode(this.bytes[this.at + 1] ?? 0);
    const plain = ESCAPES[kind];
    this.at += 2;
    if (plain !== undefined && Object.hasOwn(ESCAPES, kind)) return plain;
    if (kind !== 'u') this.fail('unknown escape');
    const hex = this.ascii(4);
    if (!/^[0-9a-fA-F]{4}$/.test(hex)) this.fail('escape needs four hex digits');
    this.at += 4;
    return String.fromCharCode(Number.parseInt(hex, 16));
  }
}
