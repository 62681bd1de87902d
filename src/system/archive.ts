import { mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { QxError } from '../errors.ts';
import type { Archive, ArchiveRef, ExtractedArchive, ExtractLimits } from '../ports.ts';
import { decompress } from './archive/decompress.ts';
import { SeenNames } from './archive/names.ts';
import { readTar, type TarEntry } from './archive/tar-reader.ts';
import { createNew, openRegular, syncDirectory } from './durable.ts';
import { hostPath } from './host-path.ts';

/** Archives on the host below `root`. */
export const hostArchive = (root: string): Archive => ({
  extract: (archive, directory, limits, signal) =>
    extract({ ...archive, path: hostPath(root, archive.path) }, hostPath(root, directory), limits, signal),
});

async function extract(
  archive: ArchiveRef,
  directory: string,
  limits: ExtractLimits,
  signal?: AbortSignal,
): Promise<ExtractedArchive> {
  const handle = await openRegular(archive.path);
  try {
    // For root alone while it fills: nobody else can plant anything in it. An existing one is refused by mkdir.
    await mkdir(directory, 0o700);
    try {
      const tree = new Tree(directory, limits);
      await decompress(handle, archive, (chunks) => tree.fill(readTar(chunks)), signal);
      return await tree.finish();
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      await syncDirectory(dirname(directory));
      throw error;
    }
  } finally {
    await handle.close();
  }
}

/** A folder that an archive is unpacked into: it holds what the archive names, and nothing that was there before. */
class Tree {
  private readonly names = new SeenNames();
  private readonly files: string[] = [];
  private readonly directories = new Set<string>();
  private sizeBytes = 0;
  private entryCount = 0;
  private readonly top: string;
  private readonly limits: ExtractLimits;

  constructor(top: string, limits: ExtractLimits) {
    this.top = top;
    this.limits = limits;
  }

  async fill(entries: AsyncIterable<TarEntry>): Promise<void> {
    for await (const entry of entries) {
      this.count(entry);
      this.names.add(entry.path, entry.kind);
      const folder = entry.kind === 'directory' ? entry.path : dirname(entry.path);
      await this.makeFolder(folder === '.' ? '' : folder);
      if (entry.kind === 'file') await this.writeFile(entry);
    }
    if (this.entryCount === 0) throw new QxError('ARCHIVE_MALFORMED', 'archive holds nothing');
  }

  /** Before a byte of the entry is written, so a header that lies about a size costs nothing. */
  private count(entry: TarEntry): void {
    this.entryCount += 1;
    this.sizeBytes += entry.sizeBytes;
    const { maxBytes, maxEntries } = this.limits;
    if (this.entryCount > maxEntries)
      throw new QxError('ARCHIVE_TOO_LARGE', `archive has more than ${maxEntries} entries`);
    if (this.sizeBytes > maxBytes)
      throw new QxError('ARCHIVE_TOO_LARGE', `archive unpacks to more than ${maxBytes} bytes`);
  }

  private async makeFolder(path: string): Promise<void> {
    if (path === '' || this.directories.has(path)) return;
    const parent = dirname(path);
    await this.makeFolder(parent === '.' ? '' : parent);
    await mkdir(join(this.top, path), 0o700);
    this.directories.add(path);
    if (this.directories.size > this.limits.maxEntries) {
      throw new QxError('ARCHIVE_TOO_LARGE', `archive has more than ${this.limits.maxEntries} folders`);
    }
  }

  private async writeFile(entry: TarEntry): Promise<void> {
    const handle = await createNew(join(this.top, entry.path));
    try {
      for await (const piece of entry.content) await handle.writeFile(piece);
      // Setuid, group and world write are nothing that an archive can ask for.
      await handle.chmod(entry.isExecutable ? 0o755 : 0o644);
      await handle.sync();
    } finally {
      await handle.close();
    }
    this.files.push(entry.path);
  }

  async finish(): Promise<ExtractedArchive> {
    // A folder's names are on the disk with the folder, and its own name with its parent: deepest first.
    for (const path of [...this.directories].sort().reverse()) await finishFolder(join(this.top, path));
    await finishFolder(this.top);
    await syncDirectory(dirname(this.top));
    const entries = [...this.files, ...[...this.directories].map((path) => `${path}/`)].sort();
    return { entries, sizeBytes: this.sizeBytes };
  }
}

async function finishFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.chmod(0o755);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
