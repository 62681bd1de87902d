import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { HttpLimits } from '../../src/ports.ts';
import { FETCH_ID } from '../../src/system/fetch/rights.ts';
import { isolatedHttp } from '../../src/system/isolated-http.ts';
import { badServer, drip, endless, serve, silence } from '../support/bad-server.ts';
import { built } from '../support/built.ts';
import { refusal } from '../support/documents.ts';
import { recordedLog } from '../support/fakes.ts';
import { childrenOf, descriptorsOf, noneLeftOf, proc, theFetcherOf } from '../support/fetchers.ts';
import { requires } from '../support/requires.ts';

const LIMITS: HttpLimits = {
  maxBytes: 100_000,
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  minBytesPerWindow: 1,
  windowMs: 60_000,
};

/** More than it may complain of. */
const NOISE_BYTES = 20_000;

const opened = (program: readonly string[] = [built('qx-node')]) => {
  const http = isolatedHttp({ program, log: recordedLog() });
  onTestFinished(() => http.close());
  return http;
};

afterEach(() => noneLeftOf(process.pid));

requires({ root: true, commands: ['setpriv', 'prlimit'] })('what the process that fetches may do', () => {
  test('nothing that its agent may', async () => {
    vi.stubEnv('QX_TOKEN', 'of the agent');
    const secret = await open('/etc/shadow');
    onTestFinished(() => secret.close());
    const { url } = await badServer(drip(new Uint8Array(50_000), 20_000, 100));
    const headers = { authorization: 'Bearer of-the-agent' };
    const { body } = await opened().get(url, { headers, limits: LIMITS });
    const pid = await theFetcherOf(process.pid);

    const status = await proc(pid, 'status');
    const row = (name: string): string | undefined =>
      new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(status)?.[1]?.replaceAll('\t', ' ');
    const id = String(FETCH_ID);
    const [all, none] = [[id, id, id, id].join(' '), '0000000000000000'];
    expect([row('Uid'), row('Gid'), row('Groups')]).toEqual([all, all, '']);
    expect(['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].map(row)).toEqual([none, none, none, none]);
    expect([row('NoNewPrivs'), row('Umask')]).toEqual(['1', '0077']);

    const limits = await proc(pid, 'limits');
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
    expect(limits).toMatch(/^Max file size +0 +0 /m);
    expect(limits).toMatch(/^Max open files +64 +64 /m);
    expect(await proc(pid, 'environ')).toBe('');
    expect(await proc(pid, 'cmdline')).not.toContain('of-the-agent');
    const plain = /^(socket:|pipe:|anon_inode:|\/dev\/null$)/;
    expect((await descriptorsOf(pid)).filter((target) => !plain.test(target))).toEqual([]);
    await body[Symbol.asyncIterator]().return?.();
  });

  test('its kernel dumps no core of it, and nobody of the same user may trace it', async () => {
    const { url } = await badServer(drip(new Uint8Array(50_000), 20_000, 100));
    const { body } = await opened().get(url, { limits: LIMITS });
    const pid = await theFetcherOf(process.pid);
    // What may not be traced has its files in /proc given to root.
    const seen = await execa('setpriv', [`--reuid=${FETCH_ID}`, '--clear-groups', 'ls', `/proc/${pid}/fd`], {
      reject: false,
    });
    expect(seen.stderr).toContain('Permission denied');
    await body[Symbol.asyncIterator]().return?.();
  });
});

test.each([100, 40_000])(
  'a body of %i bytes is there when it is read long after its process has ended',
  async (length) => {
    const { url } = await badServer(serve(new Uint8Array(length).fill(7)));
    const { body } = await opened().get(url, { limits: LIMITS });
    await noneLeftOf(process.pid);
    await sleep(100);
    const read: number[] = [];
    for await (const chunk of body) read.push(chunk.length);
    expect(read.reduce((sum, bytes) => sum + bytes, 0)).toBe(length);
  },
);

/** What the only child of this process has written so far; does not give up the turn. Null when there is none. */
function writtenByChild(): number | null {
  const pid = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').trim();
  return pid === '' ? null : Number(/^wchar: ([0-9]+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

const holdUpMs = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

describe('a process that somebody took over is refused and ended', () => {
  const hostile = (means: string) =>
    opened([process.execPath, join(import.meta.dirname, '../support/hostile-child.ts'), means]);
  const fetched = async (means: string, limits: Partial<HttpLimits> = {}): Promise<string | null> =>
    refusal(async () => {
      const { body } = await hostile(means).get('http://127.0.0.1:1/', { limits: { ...LIMITS, ...limits } });
      for await (const _ of body);
    });

  test.each([
    'no JSON',
    'a key twice',
    'a line without end',
    'half a line',
    'status 99',
    'status 600',
    'a status that is text',
    'a header with a line break',
    'a header with an escape',
    'a header name in capitals',
    'too many headers',
    'a field that nobody knows',
    'a code of ours',
    'no code at all',
    'an escape in a detail',
    'the end before the head',
    'the head twice',
    'more bytes counted than sent',
    'fewer bytes counted than sent',
    'more after the end',
  ])('%s', async (means) => {
    expect(await fetched(means)).toBe('SERVER_ERROR');
  });

  test.each([
    ['death before the head', 'SERVER_UNREACHABLE'],
    ['death in the body', 'SERVER_UNREACHABLE'],
    ['noise on standard error', 'SERVER_UNREACHABLE'],
    ['more than was asked for', 'RESPONSE_TOO_LARGE'],
  ])('%s', async (means, code) => {
    expect(await fetched(means)).toBe(code);
  });

  test('an agent that was too busy to look hears its first word before its noise', async () => {
    const http = hostile('noise on standard error');
    const get = () => refusal(() => http.get('http://127.0.0.1:1/', { limits: LIMITS }));
    await get();
    await noneLeftOf(process.pid);
    const answer = get();
    for (let turn = 0; turn < 100 && writtenByChild() === null; turn++) await Promise.resolve();
    // It was started, and nobody has looked at it: then its pipes are read in their order, and that of its noise is the first.
    for (let look = 0; look < 2_000 && (writtenByChild() ?? 0) < NOISE_BYTES; look++) holdUpMs(10);
    expect(writtenByChild()).toBeGreaterThanOrEqual(NOISE_BYTES);
    expect(await answer).toBe('SERVER_UNREACHABLE');
  });

  test.each([
    ['silence before the head', 'SERVER_UNREACHABLE'],
    ['silence in the body', 'DOWNLOAD_STALLED'],
    ['no end after the end', 'DOWNLOAD_STALLED'],
  ])('%s, by our own clock', async (means, code) => {
    const limits = { connectTimeoutMs: 100, headersTimeoutMs: 100, windowMs: 100, minBytesPerWindow: 1_000 };
    expect(await fetched(means, limits)).toBe(code);
  });

  test('one that does not start is a fault of this side, told in plain letters', async () => {
    const run = () => hostile('no start').get('http://127.0.0.1:1/', { limits: LIMITS });
    await expect(run()).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('no ?[31mway') });
  });

  test('so is a program that is not there', async () => {
    const run = () => opened(['/nowhere/qx-node']).get('http://127.0.0.1:1/', { limits: LIMITS });
    expect(await refusal(run)).toBe('IO');
  });
});

test('the agent is killed: the process that fetches for it ends by itself', async () => {
  const { url, openSockets } = await badServer(drip(new Uint8Array(50_000), 20_000, 100));
  const child = join(import.meta.dirname, '../support/fetching-child.ts');
  const agent = execa(process.execPath, [child, url, built('qx-node')], { reject: false });
  await new Promise((resolve) => agent.stdout.once('data', resolve));
  const pid = await theFetcherOf(agent.pid ?? 0);
  agent.kill('SIGKILL');
  await agent;
  await vi.waitFor(async () => expect(await proc(pid, 'cmdline')).toBe(''), { timeout: 20_000 });
  await vi.waitFor(() => expect(openSockets()).toBe(0));
});

describe('cancelled', () => {
  test('while the process starts', async () => {
    const server = await badServer(serve(new Uint8Array(10)));
    const stop = new AbortController();
    const getting = refusal(() => opened().get(server.url, { limits: LIMITS, signal: stop.signal }));
    await vi.waitFor(async () => expect(await childrenOf(process.pid)).toHaveLength(1), { interval: 5 });
    stop.abort();
    expect(await getting).toBe('CANCELLED');
    await noneLeftOf(process.pid);
  });

  test('while the server says nothing', async () => {
    const server = await badServer(silence);
    const stop = new AbortController();
    const getting = refusal(() => opened().get(server.url, { limits: LIMITS, signal: stop.signal }));
    await vi.waitFor(() => expect(server.requests).toHaveLength(1), { timeout: 20_000 });
    stop.abort();
    expect(await getting).toBe('CANCELLED');
    await noneLeftOf(process.pid);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('while the process waits for its reader', async () => {
    const server = await badServer(endless());
    const stop = new AbortController();
    const limits = { ...LIMITS, maxBytes: 1 << 30 };
    const { body } = await opened().get(server.url, { limits, signal: stop.signal });
    const chunks = body[Symbol.asyncIterator]();
    await chunks.next();
    stop.abort();
    expect(await refusal(() => chunks.next())).toBe('CANCELLED');
    await noneLeftOf(process.pid);
  });
});

test('a process holds back what its reader does not take', async () => {
  const server = await badServer(endless());
  const { body } = await opened().get(server.url, { limits: { ...LIMITS, maxBytes: 1 << 30 } });
  const chunks = body[Symbol.asyncIterator]();
  await chunks.next();
  const before = { bytes: -1 };
  await vi.waitFor(
    () => {
      const now = server.sentBytes();
      const isStill = now === before.bytes;
      before.bytes = now;
      expect(isStill).toBe(true);
    },
    { timeout: 30_000, interval: 1_000 },
  );
  expect(Number(/VmRSS:\s+([0-9]+)/.exec(await proc(await theFetcherOf(process.pid), 'status'))?.[1])).toBeLessThan(
    200_000,
  );
  await chunks.return?.();
});

test('fifty at once, each whole', async () => {
  const bytes = Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 251));
  const { url } = await badServer(serve(bytes));
  const http = opened();
  // The server is in this process, which fifty others do not leave much time.
  const limits = { ...LIMITS, connectTimeoutMs: 50_000, headersTimeoutMs: 50_000 };
  const fetched = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of (await http.get(url, { limits })).body) chunks.push(chunk);
      return Buffer.compare(Buffer.concat(chunks), bytes);
    }),
  );
  expect(new Set(fetched)).toEqual(new Set([0]));
});
