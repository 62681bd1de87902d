import { constants } from 'node:fs';
import { type FileHandle, lstat, open, opendir, stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { QxError } from '../errors.ts';
import { ENVELOPE_NAME } from '../format/envelope.ts';
import type { BundleEntry, Bundles, OpenBundle } from '../ports/bundle.ts';
import { checkEnvelope, invalidBundle, isEntryName, MAX_ENTRIES, readLayout } from './bundle/layout.ts';
import { isMissing, openRegular } from './durable.ts';

const { O_RDONLY, O_NONBLOCK } = constants;
const PIECE_BYTES = 256 * 1024;

/** Bundles that an operator names. Links are followed once, to what is open from then on. */
export const operatorBundles = (): Bundles => ({ open: openBundle });

async function openBundle(path: string): Promise<OpenBundle> {
  if (!isAbsolute(path) || path.includes('\0'))
    throw new QxError('BAD_REQUEST', 'a bundle is named by an absolute path');
  const handle = await openNamed(path);
  try {
    if ((await handle.stat()).isDirectory()) return await folderBundle(handle);
    return await fileBundle(handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openNamed(path: string): Promise<FileHandle> {
  try {
    // Looked at before it is opened: some devices, such as a watchdog, act on that alone.
    await checkKind(path, await stat(path));
    const handle = await open(path, O_RDONLY | O_NONBLOCK);
    // Once more, as something else may have come in between; a fifo then does not make us wait for a writer.
    await checkKind(path, await handle.stat()).catch(async (error) => {
      await handle.close();
      throw error;
    });
    return handle;
  } catch (error) {
    if (!isMissing(error)) throw error;
    throw new QxError('NOT_FOUND', `there is no bundle ${path}`, { next: 'is the medium mounted? ls -l shows it' });
  }
}

async function checkKind(path: string, info: { isFile(): boolean; isDirectory(): boolean }): Promise<void> {
  if (!info.isFile() && !info.isDirectory()) throw invalidBundle(`${path} is neither a file nor a folder`);
}

async function fileBundle(handle: FileHandle): Promise<OpenBundle> {
  const entries = new Map((await readLayout(handle)).map((entry) => [entry.name, entry]));
  return {
    kind: 'file',
    entries: [...entries.values()],
    read: (name, start) => {
      const entry = entries.get(name);
      if (entry === undefined) throw new TypeError(`the bundle has no ${name}`);
      return piecesOf(handle, entry.start + start, entry.start + entry.sizeBytes);
    },
    close: () => handle.close(),
  };
}

/** What `qx-release sign` left, or a bundle that was unpacked. Only plain files with the names of artifacts count. */
async function folderBundle(handle: FileHandle): Promise<OpenBundle> {
  // By its descriptor: a folder that is put in its place later is not looked at.
  const folder = `/proc/self/fd/${handle.fd}`;
  const entries: BundleEntry[] = [];
  for await (const { name } of await opendir(folder)) {
    if (!isEntryName(name)) continue;
    const info = await lstat(`${folder}/${name}`);
    if (!info.isFile()) continue;
    if (entries.length === MAX_ENTRIES) throw invalidBundle(`the folder has more than ${MAX_ENTRIES} files`);
    entries.push({ name, sizeBytes: info.size });
  }
  const isEnvelope = ({ name }: BundleEntry): boolean => name === ENVELOPE_NAME;
  const envelope = entries.find(isEnvelope);
  if (envelope === undefined) throw invalidBundle(`the folder has no ${ENVELOPE_NAME}`);
  checkEnvelope(envelope);
  const sizes = new Map(entries.map(({ name, sizeBytes }) => [name, sizeBytes]));
  return {
    kind: 'folder',
    entries: [envelope, ...entries.filter((entry) => !isEnvelope(entry))],
    read: (name, start) => fileIn(folder, name, start, sizes.get(name) ?? 0),
    close: () => handle.close(),
  };
}

async function* fileIn(folder: string, name: string, start: number, end: number): AsyncGenerator<Uint8Array> {
  const handle = await openRegular(`${folder}/${name}`);
  try {
    yield* piecesOf(handle, start, end);
  } finally {
    await handle.close();
  }
}

async function* piecesOf(handle: FileHandle, start: number, end: number): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end; ) {
    const length = Math.min(PIECE_BYTES, end - at);
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(length), 0, length, at);
    if (bytesRead === 0) throw new QxError('SIZE_MISMATCH', 'the bundle became shorter while it was read');
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
