import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Files } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { badServer, drip, rangeStart, serve } from '../support/bad-server.ts';
import { bytesOf, refusal, textOf } from '../support/documents.ts';
import { fetchBench, noise, STAGING } from '../support/fetch-bench.ts';
import { artifactOf, componentOf, manifestOf } from '../support/keys.ts';
import { requires } from '../support/requires.ts';

const bytes = noise(1 << 20);
const half = bytes.subarray(0, 1 << 19);
const other = noise(1 << 20, 2);

describe('T31 T32 the staging directory', () => {
  test('is made for its owner alone, and so is what is in it', async () => {
    const bench = await fetchBench(bytes);
    await bench.fetch([await badServer(serve(bytes))]);
    expect((await stat(bench.at(STAGING))).mode & 0o777).toBe(0o700);
    expect((await stat(bench.at(bench.finalPath))).mode & 0o777).toBe(0o600);
  });

  test.each([0o777, 0o1777, 0o770, 0o702])('with mode %o is refused', async (mode) => {
    const bench = await fetchBench(bytes);
    await mkdir(bench.at(STAGING), { recursive: true });
    await chmod(bench.at(STAGING), mode);
    expect(await refusal(async () => bench.fetch([await badServer(serve(bytes))]))).toBe('CONFIG_INVALID');
    expect(await readdir(bench.at(STAGING))).toEqual([]);
  });

  test('that is a symlink is not followed', async () => {
    const bench = await fetchBench(bytes);
    await mkdir(bench.at('/data/updates'), { recursive: true });
    await mkdir(bench.at('/elsewhere'));
    await symlink(bench.at('/elsewhere'), bench.at(STAGING));
    expect(await refusal(async () => bench.fetch([await badServer(serve(bytes))]))).not.toBeNull();
    expect(await readdir(bench.at('/elsewhere'))).toEqual([]);
  });

  test.each(['partPath', 'etagPath', 'finalPath'] as const)(
    'a symlink planted at %s is replaced, its target untouched',
    async (name) => {
      const bench = await fetchBench(bytes);
      await mkdir(bench.at(STAGING), { recursive: true, mode: 0o700 });
      await writeFile(bench.at('/victim'), 'precious');
      await symlink(bench.at('/victim'), bench.at(bench[name]));
      await bench.fetch([await badServer(serve(bytes))]);
      expect(textOf((await bench.content('/victim')) ?? bytesOf(''))).toBe('precious');
      expect(await bench.content(bench.finalPath)).toEqual(bytes);
      expect(await readdir(bench.at(STAGING))).toEqual(['qx-node.tar.zst']);
    },
  );

  test('a folder planted where the part belongs is replaced', async () => {
    const bench = await fetchBench(bytes);
    await mkdir(bench.at(bench.partPath), { recursive: true, mode: 0o700 });
    await chmod(bench.at(STAGING), 0o700);
    await bench.fetch([await badServer(serve(bytes))]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('halves of other releases are removed, halves of this one and strange files are not', async () => {
    const bench = await fetchBench(bytes);
    const [old, second] = ['e'.repeat(64), componentOf('second', half, { install_path: '/data/bin/second' })];
    await bench.leave(`${STAGING}/${old}.part`, 'x');
    await bench.leave(`${STAGING}/${old}.etag`, '"x"');
    await bench.leave(`${STAGING}/${second.sha256}.part`, 'x');
    await bench.leave(`${STAGING}/notes.txt`, 'x');
    const manifest = manifestOf({ components: [componentOf('qx-node', bytes), second] });
    await bench.fetch([await badServer(serve(bytes))], { manifest });
    expect(await readdir(bench.at(STAGING))).toEqual([`${second.sha256}.part`, 'notes.txt', 'qx-node.tar.zst'].sort());
  });
});

/** What is left for the file system itself. */
const SPARE = 16 << 20;

describe('T30 room on the disk', () => {
  const withFree = (freeBytes: number) => (files: Files) => ({ ...files, freeBytes: async () => freeBytes });

  test.each([
    ['too little for the whole artifact', bytes.length + SPARE - 1, 0, 'NO_SPACE'],
    ['just enough', bytes.length + SPARE, 0, null],
    ['too little for what is unpacked from it', bytes.length + SPARE, 1, 'NO_SPACE'],
  ])('%s', async (_title, freeBytes, reserveBytes, code) => {
    const bench = await fetchBench(bytes, withFree(freeBytes));
    const server = await badServer(serve(bytes));
    expect(await refusal(() => bench.fetch([server], { reserveBytes }))).toBe(code);
    expect(server.requests).toHaveLength(code === null ? 1 : 0);
  });

  test('what is there already is not needed twice', async () => {
    const bench = await fetchBench(bytes, withFree(bytes.length - half.length + SPARE));
    await bench.leave(bench.partPath, half);
    await bench.fetch([await badServer(serve(bytes))]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('is needed for all artifacts together, before the first of them is asked for', async () => {
    const bench = await fetchBench(bytes, withFree(2 * bytes.length + SPARE - 1));
    const server = await badServer(serve(bytes));
    const artifacts = [bench.artifact, artifactOf('other.tar.zst', other)];
    expect(await refusal(() => bench.fetch([server], { artifacts }))).toBe('NO_SPACE');
    expect(server.requests).toHaveLength(0);
  });

  test.each(['ENOSPC', 'EDQUOT'])('%s in the middle: said at once, and what came is kept', async (code) => {
    const full = (files: Files): Files => ({
      ...files,
      openPart: async (path, keepBytes) => {
        const file = await files.openPart(path, keepBytes);
        let appended = 0;
        const append = async (chunk: Uint8Array) => {
          appended += chunk.length;
          if (appended > 300_000) throw Object.assign(new Error('disk full'), { code, syscall: 'write' });
          await file.append(chunk);
        };
        return { ...file, append };
      },
    });
    const bench = await fetchBench(bytes, full);
    const server = await badServer(serve(bytes));
    expect(await refusal(() => bench.fetch([server]))).toBe('NO_SPACE');
    expect(server.requests).toHaveLength(1);
    expect((await bench.content(bench.partPath))?.length).toBeGreaterThan(100_000);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });
});

describe('what was downloaded', () => {
  /** Counts what is waited for until it is on the disk, and lets so much time pass while the bytes come. */
  async function benchTaking(takesMs: number) {
    const count = { syncs: 0 };
    const state: { later: () => void } = { later: () => undefined };
    const counting = (files: Files): Files => ({
      ...files,
      openPart: async (path, keepBytes) => {
        const file = await files.openPart(path, keepBytes);
        const sync = async () => {
          count.syncs++;
          await file.sync();
        };
        const append = async (chunk: Uint8Array) => {
          state.later();
          await file.append(chunk);
        };
        return { append, sync, close: () => file.close() };
      },
    });
    const bench = await fetchBench(bytes, counting);
    const { monotonicMs } = bench.clock;
    state.later = () => Object.assign(bench.clock, { monotonicMs: () => monotonicMs() + takesMs });
    return { bench, count };
  }

  test.each([
    ['whole and slowly is on the disk', 60_000, 1],
    ['whole and quickly need not be: it comes again as quickly', 0, 0],
  ])('%s', async (_, takesMs, syncs) => {
    const { bench, count } = await benchTaking(takesMs);
    await bench.fetch([await badServer(serve(bytes))]);
    expect([count.syncs, await bench.content(bench.finalPath)]).toEqual([syncs, bytes]);
  });

  test('in part is on the disk, however quickly', async () => {
    const { bench, count } = await benchTaking(0);
    const stopped = new AbortController();
    const onProgress = ({ doneBytes }: { doneBytes: number }) => doneBytes >= 400_000 && stopped.abort();
    const server = await badServer(drip(bytes, 400_000, 100_000));
    expect(await refusal(() => bench.fetch([server], { signal: stopped.signal, onProgress }))).toBe('CANCELLED');
    expect(count.syncs).toBe(1);
  });

  test('in one piece is not read again, what was there before is', async () => {
    const hashed: string[] = [];
    const listening = (files: Files): Files => ({
      ...files,
      hash: (path, signal) => {
        hashed.push(path);
        return files.hash(path, signal);
      },
    });
    const fresh = await fetchBench(bytes, listening);
    await fresh.fetch([await badServer(serve(bytes))]);
    expect(hashed).toEqual([]);
    const resumed = await fetchBench(bytes, listening);
    await resumed.leave(resumed.partPath, half);
    await resumed.fetch([await badServer(serve(bytes))]);
    expect(hashed).toEqual([resumed.partPath]);
  });
});

requires({ root: true, commands: ['mount', 'umount'] })('T30 a disk that is really full', () => {
  test('half of the artifact fits: refused first, and resumed when there is room', async () => {
    const bench = await fetchBench(bytes);
    await mkdir(bench.at(STAGING), { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=600k,mode=0700', 'tmpfs', bench.at(STAGING)]);
    onTestFinished(() => void execFileSync('umount', [bench.at(STAGING)]));
    const server = await badServer(serve(bytes));
    expect(await refusal(() => bench.fetch([server]))).toBe('NO_SPACE');
    expect(server.requests).toHaveLength(0);

    const optimistic = { ...hostFiles(bench.at('/')), freeBytes: async () => Number.MAX_SAFE_INTEGER };
    expect(await refusal(() => bench.fetch([server], {}, optimistic))).toBe('NO_SPACE');
    expect((await bench.content(bench.partPath))?.length).toBeGreaterThan(300_000);

    execFileSync('mount', ['-o', 'remount,size=40m', bench.at(STAGING)]);
    await bench.fetch([server]);
    expect(rangeStart(server.requests.at(-1))).toBeGreaterThan(300_000);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });
});
