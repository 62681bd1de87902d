import type { FileHandle } from 'node:fs/promises';
import { QxError } from '../../errors.ts';
import { ENVELOPE_NAME } from '../../format/envelope.ts';
import { DOCUMENT_LIMITS } from '../../format/json.ts';
import { ARTIFACT_PATTERN } from '../../format/manifest.ts';
import type { BundleEntry } from '../../ports/bundle.ts';
import { headerOf } from '../archive/header.ts';
import { BLOCK_BYTES } from '../archive/tar-reader.ts';

/**
 * How a bundle lies in its file: a tar that any tar can list, of which only one form is a bundle. A header follows from the
 * name and the size of its entry, so the reader takes both out of it, makes the header that belongs to them, and compares:
 * no link, device, owner, date, prefix, checksum or extended header can say anything to another reader that we did not see.
 */

/** An entry, and where its content begins. */
export interface PlacedEntry extends BundleEntry {
  readonly start: number;
}

/** 256 components and an image with its chunks make 258. */
export const MAX_ENTRIES = 520;
export const END_BYTES = 2 * BLOCK_BYTES;

export const entryHeader = (name: string, sizeBytes: number): Buffer =>
  headerOf({ path: name, kind: 'file', sizeBytes, mode: 0o644 });

export const paddingBytes = (sizeBytes: number): number => (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;

const NAME = new RegExp(ARTIFACT_PATTERN);

/** Reads headers and paddings, never content. @throws QxError BUNDLE_INVALID */
export async function readLayout(handle: FileHandle): Promise<PlacedEntry[]> {
  const { size: fileBytes } = await handle.stat();
  const entries: PlacedEntry[] = [];
  const seen = new Set<string>();
  const window = { handle, fileBytes };
  for (let at = 0; ; ) {
    if (isZero(await bytesAt(window, at, BLOCK_BYTES))) {
      await checkEnd(window, at);
      break;
    }
    if (entries.length === MAX_ENTRIES) throw invalidBundle(`it has more than ${MAX_ENTRIES} entries`);
    const entry = await entryAt(window, at);
    // Two names that some file system takes for one would be two different releases, depending on who unpacks it.
    if (seen.has(entry.name.toLowerCase())) throw invalidBundle(`${entry.name} is in it twice`);
    seen.add(entry.name.toLowerCase());
    entries.push(entry);
    const end = entry.start + entry.sizeBytes;
    if (!isZero(await bytesAt(window, end, paddingBytes(entry.sizeBytes)))) {
      throw invalidBundle(`something is hidden behind ${entry.name}`);
    }
    at = end + paddingBytes(entry.sizeBytes);
  }
  checkEnvelope(entries[0]);
  return entries;
}

/** @throws QxError BUNDLE_INVALID */
export function checkEnvelope(entry: BundleEntry | undefined): void {
  if (entry?.name !== ENVELOPE_NAME) throw invalidBundle(`it does not begin with ${ENVELOPE_NAME}`);
  if (entry.sizeBytes > DOCUMENT_LIMITS.maxBytes) {
    throw invalidBundle(`its ${ENVELOPE_NAME} has more than ${DOCUMENT_LIMITS.maxBytes} bytes`);
  }
}

export const isEntryName = (name: string): boolean => NAME.test(name);

export const invalidBundle = (reason: string): QxError =>
  new QxError('BUNDLE_INVALID', `this is no bundle that qx-release made: ${reason}`, {
    next: 'copy it again, or make it again: qx-release bundle; qx-release verify FILE.qxb checks it',
  });

interface Window {
  readonly handle: FileHandle;
  readonly fileBytes: number;
}

async function entryAt(window: Window, at: number): Promise<PlacedEntry> {
  const block = await bytesAt(window, at, BLOCK_BYTES);
  const isExtended = block[TYPE_AT] === EXTENDED;
  const { name, sizeBytes } = isExtended
    ? extendedClaim(await bytesAt(window, at + BLOCK_BYTES, BLOCK_BYTES))
    : plainClaim(block);
  const isSound = isEntryName(name) && Number.isSafeInteger(sizeBytes) && sizeBytes >= 0;
  const header = isSound ? entryHeader(name, sizeBytes) : null;
  if (header === null || !header.equals(await bytesAt(window, at, header.length))) {
    throw invalidBundle(`byte ${at} does not begin an entry of a plain file`);
  }
  const start = at + header.length;
  if (start + sizeBytes > window.fileBytes) throw cutShort(`${name} goes on beyond its end`);
  return { name, sizeBytes, start };
}

const TYPE_AT = 156;
const EXTENDED = 'x'.charCodeAt(0);

type Claim = { readonly name: string; readonly sizeBytes: number };

/** What the header seems to say. It need not be read with care: a header that says anything else is another header. */
const plainClaim = (block: Buffer): Claim => ({
  name: block.toString('latin1', 0, 100).replace(/\0.*$/s, ''),
  sizeBytes: Number.parseInt(block.toString('latin1', 124, 135), 8),
});

/** Where the name is too long, or the size too large, for the one block. */
function extendedClaim(body: Buffer): Claim {
  const [, name = '', size = ''] = / path=(.+)\n[0-9]+ size=([0-9]{1,15})\n/.exec(body.toString('latin1')) ?? [];
  return { name, sizeBytes: Number.parseInt(size, 10) };
}

async function checkEnd({ handle, fileBytes }: Window, at: number): Promise<void> {
  const isLast = fileBytes === at + END_BYTES;
  if (isLast && isZero(await bytesAt({ handle, fileBytes }, at, END_BYTES))) return;
  throw fileBytes < at + END_BYTES ? cutShort('its end is missing') : invalidBundle('something follows its end');
}

async function bytesAt({ handle, fileBytes }: Window, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  if (at + length > fileBytes) throw cutShort('its end is missing');
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, at + filled);
    if (bytesRead === 0) throw cutShort('it became shorter while it was read');
    filled += bytesRead;
  }
  return bytes;
}

const cutShort = (reason: string): QxError =>
  new QxError('BUNDLE_INVALID', `this bundle is not whole: ${reason}`, {
    next: 'copy it again, and unmount the stick before you pull it out',
  });

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
