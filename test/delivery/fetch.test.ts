import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { badServer, cutAfter, drip, rangeStart, serve, silence, status } from '../support/bad-server.ts';
import { refusal } from '../support/documents.ts';
import { fetchBench, noise, STAGING } from '../support/fetch-bench.ts';
import { artifactOf } from '../support/keys.ts';

const bytes = noise(1 << 20);
const half = bytes.subarray(0, 1 << 19);
const other = noise(1 << 20, 2);

describe('a download that goes well', () => {
  test('ends under the name that the troubleshooting guide looks for, and nothing else is left', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(serve(bytes));
    await bench.fetch([server]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
    expect(await readdir(bench.at(STAGING))).toEqual(['qx-node.tar.zst']);
    expect(server.requests[0]?.url).toBe('/api/v1/quantix-os/releases/1.1.0/qx-node.tar.zst?channel=dev');
    expect(server.requests[0]?.headers['accept-encoding']).toBe('identity');
  });

  test('defect 10: tells how far it is, and never backwards', async () => {
    const bench = await fetchBench(bytes);
    await bench.fetch([await badServer(serve(bytes))]);
    const done = bench.progress.map((step) => step.doneBytes);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(bench.progress.at(-1)).toEqual({
      artifact: 'qx-node.tar.zst',
      doneBytes: bytes.length,
      totalBytes: bytes.length,
    });
  });

  test('of several artifacts fetches those that are missing', async () => {
    const bench = await fetchBench(bytes);
    const [two, three] = [artifactOf('two.tar.zst', half), artifactOf('three.tar.zst', other)];
    await bench.leave(`${STAGING}/two.tar.zst`, half);
    const server = await badServer(serve(bytes), serve(other));
    await bench.fetch([server], { artifacts: [bench.artifact, two, three] });
    expect(server.requests.map((r) => r.url?.split(/[/?]/).at(-2))).toEqual(['qx-node.tar.zst', 'three.tar.zst']);
    expect(await bench.content(`${STAGING}/three.tar.zst`)).toEqual(other);
  });

  test('is not repeated when the bytes are there', async () => {
    const bench = await fetchBench(bytes);
    await bench.fetch([await badServer(serve(bytes))]);
    const server = await badServer(status(500));
    await bench.fetch([server]);
    expect(server.requests).toHaveLength(0);
  });

  test('replaces a file of the same name that is not this artifact', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.finalPath, other);
    await bench.fetch([await badServer(serve(bytes))]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('needs no request when the part was complete and only the rename was missing', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, bytes);
    const server = await badServer(status(500));
    await bench.fetch([server]);
    expect(server.requests).toHaveLength(0);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });
});

describe('a broken line', () => {
  test('a connection that is cut is resumed where it broke', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(cutAfter(bytes, 300_000), cutAfter(bytes, 300_000), serve(bytes));
    await bench.fetch([server]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
    expect(server.requests.map(rangeStart)).toEqual([null, 300_000, 600_000]);
    expect(server.requests[1]?.headers['if-range']).toBe('"one"');
  });

  test('defect 5: what was loaded is kept over a restart of the agent', async () => {
    const bench = await fetchBench(bytes);
    const stopped = new AbortController();
    const first = await badServer(drip(bytes, 400_000, 100_000));
    const onProgress = ({ doneBytes }: { doneBytes: number }) => doneBytes >= 400_000 && stopped.abort();
    expect(await refusal(() => bench.fetch([first], { signal: stopped.signal, onProgress }))).toBe('CANCELLED');
    expect(await bench.content(bench.partPath)).toEqual(bytes.subarray(0, 400_000));
    const second = await badServer(serve(bytes));
    await bench.fetch([second]);
    expect(second.requests[0]?.headers.range).toBe('bytes=400000-');
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a server that is killed in the middle and comes back', async () => {
    const bench = await fetchBench(bytes);
    const dying = await badServer(drip(bytes, 400_000, 100_000));
    const restarted = await badServer(serve(bytes));
    const servers = [dying, restarted];
    await bench.fetch(servers, { onProgress: ({ doneBytes }) => void (doneBytes === 400_000 && dying.stop()) });
    expect(restarted.requests[0]?.headers.range).toBe('bytes=400000-');
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a line that is cut again and again, but moves', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(cutAfter(bytes, 100_000));
    const policy = { maxAttempts: 2, firstDelayMs: 1, maxDelayMs: 1, maxRetryAfterMs: 1 };
    await bench.fetch([server], { policy });
    expect(server.requests).toHaveLength(11);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a line that is cut again and again and does not move', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(cutAfter(bytes, 10));
    expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_UNREACHABLE');
    expect(server.requests).toHaveLength(10);
    expect(bench.clock.slept).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  test('T22 one byte at a time is given up, and what came is kept', async () => {
    const bench = await fetchBench(bytes);
    const slow = await badServer(drip(bytes, 500_000, 30), serve(bytes));
    await bench.fetch([slow]);
    expect(slow.requests).toHaveLength(2);
    expect(Number(/\d+/.exec(slow.requests[1]?.headers.range ?? '')?.[0])).toBeGreaterThanOrEqual(500_000);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('cancelled while waiting for the next attempt', async () => {
    const bench = await fetchBench(bytes);
    const stopped = new AbortController();
    const server = await badServer((_request, response) => {
      stopped.abort();
      response.writeHead(500).end();
    });
    expect(await refusal(() => bench.fetch([server], { signal: stopped.signal }))).toBe('CANCELLED');
    expect(server.requests).toHaveLength(1);
  });
});

describe('servers that fail, and mirrors', () => {
  test('500 every second time', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(
      status(500),
      cutAfter(bytes, 400_000),
      status(500),
      cutAfter(bytes, 400_000),
      status(502),
      serve(bytes),
    );
    await bench.fetch([server]);
    expect(server.requests).toHaveLength(6);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('Retry-After', async () => {
    const bench = await fetchBench(bytes);
    await bench.fetch([await badServer(status(503, { 'retry-after': '30' }), serve(bytes))]);
    expect(bench.clock.slept).toEqual([30_000]);
  });

  test('are asked in order, and the download goes on where the server before broke it', async () => {
    const bench = await fetchBench(bytes);
    const [first, second, third] = [
      await badServer(status(503)),
      await badServer(cutAfter(bytes, 300_000)),
      await badServer(serve(bytes)),
    ];
    await bench.fetch([first, second, third]);
    const [one, two, rest] = [first, second, third].map((server) => rangeStart(server.requests[0]));
    expect([one, two, rest]).toEqual([null, null, 300_000]);
    expect(bench.clock.slept).toEqual([]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a mirror with other bytes is left for one with the right ones', async () => {
    const bench = await fetchBench(bytes);
    const [wrong, right] = [await badServer(serve(other)), await badServer(serve(bytes))];
    await bench.fetch([wrong, right]);
    expect(wrong.requests).toHaveLength(1);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a mirror that poisoned the beginning does not spoil the next one', async () => {
    const bench = await fetchBench(bytes);
    const [wrong, right] = [await badServer(cutAfter(other, 1 << 19)), await badServer(serve(bytes))];
    await bench.fetch([wrong, right]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('all wrong', async () => {
    const bench = await fetchBench(bytes);
    const servers = [await badServer(serve(other)), await badServer(status(404)), await badServer(status(302))];
    expect(await refusal(() => bench.fetch(servers))).toBe('REDIRECT_REFUSED');
    expect(servers.map((s) => s.requests.length)).toEqual([1, 1, 1]);
  });

  test('silent', async () => {
    const bench = await fetchBench(bytes);
    const policy = { maxAttempts: 2, firstDelayMs: 1, maxDelayMs: 1, maxRetryAfterMs: 1 };
    expect(await refusal(() => bench.fetch([], { policy }))).toBe('CONFIG_INVALID');
    const limits = { connectTimeoutMs: 100, headersTimeoutMs: 100, minBytesPerWindow: 1, windowMs: 100 };
    expect(await refusal(async () => bench.fetch([await badServer(silence)], { policy, limits }))).toBe(
      'SERVER_UNREACHABLE',
    );
  });
});
