import { Header } from 'tar';
import { QxError } from '../../errors.ts';
import { ByteReader } from './blocks.ts';
import { plainPath } from './names.ts';
import { type Extension, readExtension } from './pax.ts';

/**
 * Walks a tar stream block by block and lets only plain files and directories through. The header's fields are decoded by
 * `tar`; its parser is not used, because it is made to get as much as possible out of any archive: it skips damaged headers,
 * ignores PAX records that it cannot read, and stops at the end marker whatever follows. Here each of those refuses the whole.
 */

export interface TarEntry {
  readonly path: string;
  readonly kind: 'file' | 'directory';
  readonly isExecutable: boolean;
  readonly sizeBytes: number;
  /** Must be read to its end before the next entry is asked for. Empty for a directory. */
  readonly content: AsyncIterable<Uint8Array>;
}

export const BLOCK_BYTES = 512;
const LARGEST_OCTAL_SIZE = 8 ** 11;
const MAX_EXTENSION_BYTES = 16 * 1024;
/** tar fills its last record with zeros: 10 KiB by default, 1 MiB with the largest blocking factor that anybody uses. */
const MAX_PADDING_BYTES = 1 << 20;

export async function* readTar(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(chunks);
  for (;;) {
    const block = await reader.exactly(BLOCK_BYTES);
    if (isZero(block)) return checkEnd(reader);
    const found = await readHeader(reader, block);
    const kind = kindOf(found.header);
    const sizeBytes = sizeOf(found, kind);
    const path = plainPath(found.extension.path ?? found.header.path ?? '');
    if (path === '' && kind === 'file') unsafe('a file has the name of the top folder');
    const content = reader.pieces(sizeBytes);
    if (path !== '') yield { path, kind, sizeBytes, isExecutable: ((found.header.mode ?? 0) & 0o111) !== 0, content };
    // Whatever the consumer left would be read as the next header.
    if (sizeBytes > 0 && (await content.next()).done !== true) throw new Error(`content of ${path} was not read`);
    const padding = await reader.exactly((BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES);
    if (!isZero(padding)) malformed('something is hidden behind the end of a file');
  }
}

interface Found {
  readonly header: Header;
  readonly extension: Extension;
  /** The size field as it stands in the block. */
  readonly rawSize: string;
}

/** The header of the next file or directory, after at most one extension of each kind, which is all that any tar writes. */
async function readHeader(reader: ByteReader, first: Buffer): Promise<Found> {
  let block = first;
  const seen = new Set<string>();
  let extension: Extension = {};
  for (;;) {
    const header = decode(block);
    const typeflag = String.fromCharCode(block[156] ?? 0);
    if (typeflag !== 'x' && typeflag !== 'g' && typeflag !== 'L') {
      return { header, extension, rawSize: block.toString('latin1', 124, 136) };
    }
    if (seen.has(typeflag)) malformed(`two ${typeflag} headers in a row`);
    seen.add(typeflag);
    const sizeBytes = header.size ?? -1;
    if (sizeBytes < 0 || sizeBytes > MAX_EXTENSION_BYTES) {
      throw new QxError('ARCHIVE_TOO_LARGE', `an extended header is larger than ${MAX_EXTENSION_BYTES} bytes`);
    }
    const body = await reader.exactly(Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES);
    extension = readExtension(typeflag, body.subarray(0, sizeBytes), extension);
    block = await reader.exactly(BLOCK_BYTES);
  }
}

function decode(block: Buffer): Header {
  const header = headerOf(block);
  if (!header.cksumValid) malformed('a header has a wrong checksum');
  return header;
}

function headerOf(block: Buffer): Header {
  try {
    return new Header(block);
  } catch (error) {
    return malformed(`a header has a number that is none: ${(error as Error).message}`);
  }
}

function kindOf(header: Header): 'file' | 'directory' {
  const { type } = header;
  if (header.linkpath) unsafe(`${header.path} carries the target of a link`);
  if (type === 'Directory') return 'directory';
  if (type === 'File' || type === 'OldFile') return 'file';
  return unsafe(`${header.path} is a ${type}, and only files and directories may be in an archive`);
}

function sizeOf({ header, extension, rawSize }: Found, kind: 'file' | 'directory'): number {
  const sizeBytes = extension.sizeBytes ?? header.size ?? -1;
  // Between two sizes, two readers find two different sets of files. Only what does not fit into the field is said elsewhere.
  if (sizeBytes !== header.size && sizeBytes < LARGEST_OCTAL_SIZE) malformed('an entry has two sizes');
  if (sizeBytes < 0) malformed('an entry has no size, or a negative one');
  // Header itself takes the size of a directory for 0, whatever it says: its content would then be taken for headers.
  if (kind === 'directory' && (sizeBytes !== 0 || !/^[0 \0]*$/.test(rawSize))) unsafe('a directory has content');
  return sizeBytes;
}

/** Two zero blocks end an archive; after them come zeros only, or somebody hides a second archive. */
async function checkEnd(reader: ByteReader): Promise<void> {
  if (!isZero(await reader.exactly(BLOCK_BYTES))) malformed('an entry follows the end marker');
  let paddingBytes = 0;
  for (let piece = await reader.some(MAX_PADDING_BYTES); piece !== null; piece = await reader.some(MAX_PADDING_BYTES)) {
    if (!isZero(piece)) malformed('something follows the end marker');
    paddingBytes += piece.length;
    if (paddingBytes > MAX_PADDING_BYTES)
      throw new QxError('ARCHIVE_TOO_LARGE', 'too many zeros follow the end marker');
  }
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

function malformed(reason: string): never {
  throw new QxError('ARCHIVE_MALFORMED', `archive: ${reason}`);
}

function unsafe(reason: string): never {
  throw new QxError('ARCHIVE_UNSAFE', `archive: ${reason}`);
}
