import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { expect, onTestFinished } from 'vitest';
import type { Code } from '../../src/errors.ts';
import type { ArchiveRef, ExtractedArchive } from '../../src/ports.ts';
import { hostArchive } from '../../src/system/archive.ts';
import type { Lie } from './tar-maker.ts';

const LIMITS = { maxBytes: 1 << 20, maxEntries: 1000 };

export const good: Lie = { name: 'good', body: 'good' };
export const zst = (bytes: Buffer): Buffer => zstdCompressSync(bytes);

export const refOf = (bytes: Buffer): ArchiveRef => ({
  path: '/a.tar.zst',
  sha256: createHash('sha256').update(bytes).digest('hex'),
  sizeBytes: bytes.length,
});

/** A folder to unpack in, with something beside it that no archive may reach. */
export interface Yard {
  readonly root: string;
  extract(bytes: Buffer, limits?: typeof LIMITS): Promise<ExtractedArchive>;
  expectRefused(bytes: Buffer, code: Code, limits?: typeof LIMITS): Promise<void>;
  expectUntouched(inData: readonly string[]): Promise<void>;
}

export function archiveYard(): Yard {
  const root = mkdtempSync(join(tmpdir(), 'quantix-test-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'data'));
  writeFileSync(join(root, 'victim'), 'untouched');

  const extract: Yard['extract'] = async (bytes, limits = LIMITS) => {
    writeFileSync(join(root, 'a.tar.zst'), bytes);
    return hostArchive(root).extract(refOf(bytes), '/data/out', limits);
  };
  const expectUntouched: Yard['expectUntouched'] = async (inData) => {
    expect(await readdir(join(root, 'data'))).toEqual(inData);
    expect((await readdir(root)).sort()).toEqual(['a.tar.zst', 'data', 'victim']);
    expect(await readFile(join(root, 'victim'), 'utf8')).toBe('untouched');
  };
  return {
    root,
    extract,
    expectUntouched,
    expectRefused: async (bytes, code, limits) => {
      await expect(extract(bytes, limits)).rejects.toMatchObject({ code });
      await expectUntouched([]);
    },
  };
}
