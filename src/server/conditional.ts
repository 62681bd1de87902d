import { QxError } from '../errors.ts';
import type { Caller, Headers, Reply } from '../ports/serving.ts';

/** Conditional and range requests of RFC 9110, for bytes that have a strong validator. */

interface Representation {
  /** SHA-256 of the whole, lower-case hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

type Selection =
  | { readonly kind: 'unchanged' | 'whole' | 'unsatisfiable' }
  | { readonly kind: 'part'; readonly start: number; readonly end: number };

type RequestHeaders = Caller['headers'];

const etagOf = ({ sha256 }: Representation): string => `"${sha256}"`;

/** What of the representation is asked for. An unusable Range is ignored, as the RFC wants it; the whole is never wrong. */
export function select(headers: RequestHeaders, representation: Representation): Selection {
  const etag = etagOf(representation);
  if (isListed(etag, headers['if-none-match'])) return { kind: 'unchanged' };
  const ifRange = headers['if-range'];
  // A date is no strong validator: a file may change twice within its second.
  if (ifRange !== undefined && ifRange !== etag) return { kind: 'whole' };
  return headers.range === undefined ? { kind: 'whole' } : parseRange(headers.range, representation.sizeBytes);
}

function isListed(etag: string, list: string | undefined): boolean {
  if (list === undefined) return false;
  const tags = list.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes('*') || tags.includes(etag);
}

function parseRange(text: string, sizeBytes: number): Selection {
  // Several ranges in one answer would need multipart/byteranges, which no client of ours reads.
  const match = /^bytes=\s*([0-9]{0,15})-([0-9]{0,15})\s*$/i.exec(text);
  const [first = '', last = ''] = match?.slice(1) ?? [];
  if (match === null || (first === '' && last === '')) return { kind: 'whole' };
  if (first === '') return part(Math.max(0, sizeBytes - Number(last)), sizeBytes, sizeBytes);
  if (last !== '' && Number(last) < Number(first)) return { kind: 'whole' };
  return part(Number(first), last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes), sizeBytes);
}

const part = (start: number, end: number, sizeBytes: number): Selection =>
  start < sizeBytes && start < end ? { kind: 'part', start, end } : { kind: 'unsatisfiable' };

interface Described extends Representation {
  readonly type: string;
  readonly headers: Headers;
}

type Open = (start: number, end: number) => Promise<AsyncIterable<Uint8Array>>;

/** The answer to a request for these bytes. */
export function answer(requested: RequestHeaders, described: Described, open: Open): Reply<never> {
  const { sizeBytes, type } = described;
  const selection = select(requested, described);
  const headers = {
    ...described.headers,
    etag: etagOf(described),
    'accept-ranges': 'bytes',
    // Of the whole, also when a part is sent: a client that resumed can check what it put together.
    'repr-digest': `sha-256=:${Uint8Array.fromHex(described.sha256).toBase64()}:`,
  };
  switch (selection.kind) {
    case 'unchanged':
      return { status: 304, headers };
    case 'unsatisfiable': {
      const refused = new QxError(
        'RANGE_UNSATISFIABLE',
        `the requested range starts beyond the ${sizeBytes} bytes there are`,
      );
      return { refused, headers: { 'content-range': `bytes */${sizeBytes}` } };
    }
    case 'part': {
      const { start, end } = selection;
      const range = { 'content-range': `bytes ${start}-${end - 1}/${sizeBytes}` };
      return {
        status: 206,
        headers: { ...headers, ...range },
        type,
        sizeBytes: end - start,
        open: () => open(start, end),
      };
    }
    case 'whole':
      return { status: 200, headers, type, sizeBytes, open: () => open(0, sizeBytes) };
  }
}
