import { QxError } from '../../errors.ts';

/** What an extended header changes for the entry after it. Only a longer name and a larger size are believed. */
export interface Extension {
  readonly path?: string;
  readonly sizeBytes?: number;
}

/** Facts about a file that we do not keep. */
const IGNORED = new Set(['mtime', 'atime', 'ctime', 'uid', 'gid', 'uname', 'gname', 'comment']);

/** @param kind `x` and `g` are PAX headers for one entry and for all, `L` is GNU's long name. */
export function readExtension(kind: 'x' | 'g' | 'L', body: Buffer, before: Extension): Extension {
  if (kind === 'L') return name(before, text(trimEnd(body)));
  const records = readRecords(body);
  if (kind === 'x') return [...records].reduce<Extension>((found, [key, value]) => apply(found, key, value), before);
  // A name or a size for all entries makes no sense, and readers disagree on it.
  for (const key of records.keys()) if (!IGNORED.has(key)) unsafe(`a global header sets ${key}`);
  return before;
}

function apply(found: Extension, key: string, value: string): Extension {
  if (IGNORED.has(key)) return found;
  if (key === 'path') return name(found, value);
  if (key !== 'size') return unsafe(`an extended header sets ${JSON.stringify(key.slice(0, 60))}`);
  // Number() would take "1e3", "0x10" and " 7" too, where another reader sees 1, 0 or nothing.
  if (!/^(?:0|[1-9][0-9]{0,14})$/.test(value))
    return malformed(`size ${JSON.stringify(value.slice(0, 30))} is no number`);
  return { ...found, sizeBytes: Number(value) };
}

function name(found: Extension, path: string): Extension {
  if (found.path !== undefined) malformed('an entry is named twice');
  return { ...found, path };
}

/** `LENGTH KEY=VALUE\n`, the length counting the whole record: each byte belongs to exactly one record, or all is refused. */
function readRecords(body: Buffer): ReadonlyMap<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < body.length; ) {
    const digits = /^([1-9][0-9]{0,4}) /.exec(body.toString('latin1', at, at + 6))?.[1];
    if (digits === undefined) return malformed('a PAX record has no length');
    const end = at + Number(digits);
    if (end > body.length || body[end - 1] !== 0x0a) return malformed('a PAX record has a wrong length');
    const record = text(body.subarray(at + digits.length + 1, end - 1));
    const equals = record.indexOf('=');
    if (equals < 1) return malformed('a PAX record has no key');
    const key = record.slice(0, equals);
    if (records.has(key)) return malformed(`PAX key ${JSON.stringify(key.slice(0, 60))} appears twice`);
    records.set(key, record.slice(equals + 1));
    at = end;
  }
  return records;
}

/** GNU ends a long name with one NUL. */
const trimEnd = (body: Buffer): Buffer => (body.at(-1) === 0 ? body.subarray(0, -1) : body);

function text(bytes: Buffer): string {
  if (bytes.includes(0)) return unsafe('an extended header holds a NUL');
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return malformed('an extended header is not UTF-8');
  }
}

function malformed(reason: string): never {
  throw new QxError('ARCHIVE_MALFORMED', `archive: ${reason}`);
}

function unsafe(reason: string): never {
  throw new QxError('ARCHIVE_UNSAFE', `archive: ${reason}`);
}
