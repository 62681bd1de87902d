import { createHash } from 'node:crypto';
import { createWriteStream, type Dirent } from 'node:fs';
import { type FileHandle, lstat, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { QxError } from '../../errors.ts';
import { openRegular, replace } from '../durable.ts';
import { type Member as Headed, headerOf } from './header.ts';
import { plainPath, SeenNames } from './names.ts';
import { BLOCK_BYTES } from './tar-reader.ts';

export interface PackedArchive {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly unpackedSizeBytes: number;
  readonly kind: 'file' | 'directory';
  /** Of files and folders whose permissions are others in the archive than here: 0755 for what may be run, else 0644. */
  readonly changedModes: readonly { readonly path: string; readonly from: number; readonly to: number }[];
}

interface Member extends Headed {
  readonly source: string;
  /** As it is here. */
  readonly ownMode: number;
}

const READ_BYTES = 1 << 20;
/** One level and one thread for everybody: both are part of what the bytes depend on. Above it, time doubles for a few per cent. */
const ZSTD = {
  params: {
    [constants.ZSTD_c_compressionLevel]: 12,
    [constants.ZSTD_c_checksumFlag]: 1,
    [constants.ZSTD_c_nbWorkers]: 0,
  },
};

/**
 * Packs a file, under its own name, or the content of a folder into `target`. Neither who packs, nor when, nor in which order a
 * file system lists its names shows in the bytes.
 * @throws QxError ARCHIVE_UNSAFE for whatever `extract` would refuse
 */
export async function packArchive(source: string, target: string): Promise<PackedArchive> {
  const stats = await lstat(source);
  const kind = kindOf(source, stats);
  const members = kind === 'file' ? [member(basename(source), source, stats)] : await membersOf(source, '');
  if (members.length === 0) throw new QxError('ARCHIVE_UNSAFE', `${source} holds nothing to pack`);
  const names = new SeenNames();
  for (const { path, kind: memberKind } of members) names.add(plainPath(path), memberKind);

  const hash = createHash('sha256');
  let sizeBytes = 0;
  const counted = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      yield chunk;
    }
  };
  await replace(target, async (temporary) => {
    const output = createWriteStream(temporary, { flags: 'wx', mode: 0o644, flush: true });
    await pipeline(Readable.from(tarOf(members), { objectMode: false }), createZstdCompress(ZSTD), counted, output);
  });
  const unpackedSizeBytes = members.reduce((sum, m) => sum + m.sizeBytes, 0);
  const changedModes = members
    .filter(({ mode, ownMode }) => mode !== ownMode)
    .map(({ path, mode, ownMode }) => ({ path, from: ownMode, to: mode }));
  return { sha256: hash.digest('hex'), sizeBytes, unpackedSizeBytes, kind, changedModes };
}

/** A folder before what is in it; names in the order of their UTF-16 units, which no locale changes. */
async function membersOf(folder: string, prefix: string): Promise<Member[]> {
  const members: Member[] = [];
  for (const name of (await readdir(folder, { withFileTypes: true })).map(({ name }: Dirent) => name).sort()) {
    const source = join(folder, name);
    const found = member(`${prefix}${name}`, source, await lstat(source));
    members.push(found);
    if (found.kind === 'directory') members.push(...(await membersOf(source, `${found.path}/`)));
  }
  return members;
}

type Stats = Awaited<ReturnType<typeof lstat>>;

function member(path: string, source: string, stats: Stats): Member {
  const ownMode = Number(stats.mode) & 0o7777;
  if (kindOf(source, stats) === 'directory')
    return { path, source, kind: 'directory', sizeBytes: 0, mode: 0o755, ownMode };
  const mode = (Number(stats.mode) & 0o111) === 0 ? 0o644 : 0o755;
  return { path, source, kind: 'file', sizeBytes: Number(stats.size), mode, ownMode };
}

function kindOf(source: string, stats: Stats): 'file' | 'directory' {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  const what = stats.isSymbolicLink() ? 'a symlink' : 'neither a file nor a folder';
  throw new QxError('ARCHIVE_UNSAFE', `${source} is ${what}, and no host would unpack it`, {
    next: 'pack what it points at, or leave it out',
  });
}

async function* tarOf(members: readonly Member[]): AsyncGenerator<Uint8Array> {
  for (const found of members) {
    yield headerOf(found);
    if (found.kind === 'file') yield* contentOf(found);
  }
  yield Buffer.alloc(2 * BLOCK_BYTES);
}

async function* contentOf({ source, sizeBytes }: Member): AsyncGenerator<Uint8Array> {
  const handle = await openRegular(source);
  try {
    yield* exactly(handle, sizeBytes, source);
  } finally {
    await handle.close();
  }
  yield Buffer.alloc((BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES);
}

/** The header has promised the size: a file that changes while it is packed would shift everything behind it. */
async function* exactly(handle: FileHandle, sizeBytes: number, source: string): AsyncGenerator<Uint8Array> {
  let position = 0;
  for (;;) {
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, position);
    position += bytesRead;
    if (position > sizeBytes || (bytesRead === 0 && position !== sizeBytes)) {
      throw new QxError('IO', `${source} changed while it was packed`);
    }
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}
