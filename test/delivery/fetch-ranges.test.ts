import { describe, expect, test } from 'vitest';
import { type Answer, badServer, cutAfter, serve, serveWhole, status } from '../support/bad-server.ts';
import { refusal } from '../support/documents.ts';
import { fetchBench, noise } from '../support/fetch-bench.ts';

const bytes = noise(1 << 20);
const half = bytes.subarray(0, 1 << 19);
const other = noise(1 << 20, 2);

/** A range that starts where it was asked for, described in whatever way the test wants. */
const range =
  (header: string, body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Answer =>
  (_request, response) =>
    void response.writeHead(206, { 'content-range': header, ...headers }).end(body);

describe('T23 ranges', () => {
  test('a server that ignores them', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, half);
    const server = await badServer(serveWhole(bytes));
    await bench.fetch([server]);
    expect(server.requests).toHaveLength(1);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  const tail = bytes.subarray(1 << 19);
  const size = bytes.length;
  test.each([
    ['another start', range(`bytes 0-${size - 1}/${size}`, bytes)],
    ['a start that is one off', range(`bytes ${half.length + 1}-${size - 1}/${size}`, tail)],
    ['another total', range(`bytes ${half.length}-${size - 1}/${size + 1}`, tail)],
    ['an end behind the file', range(`bytes ${half.length}-${size}/${size}`, tail)],
    ['an end before the start', range(`bytes ${half.length}-5/${size}`, tail)],
    ['another unit', range(`lines ${half.length}-${size - 1}/${size}`, tail)],
    ['numbers of a hundred digits', range(`bytes ${'9'.repeat(100)}-${size - 1}/${size}`, tail)],
    ['no Content-Range at all', (_q, response) => void response.writeHead(206).end(tail)],
    [
      'several parts',
      (_q, response) => void response.writeHead(206, { 'content-type': 'multipart/byteranges' }).end(tail),
    ],
    ['the ETag of another file', range(`bytes ${half.length}-${size - 1}/${size}`, tail, { etag: '"two"' })],
    ['416', status(416, { 'content-range': `bytes */${size}` })],
  ] as [string, Answer][])('206 with %s: the whole file is asked for', async (_title, answer) => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, half);
    await bench.leave(bench.etagPath, '"one"');
    const server = await badServer(answer, serve(bytes));
    await bench.fetch([server]);
    expect(server.requests.map((r) => r.headers.range)).toEqual([`bytes=${half.length}-`, undefined]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a range that nobody asked for is refused for good', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(range(`bytes 0-${size - 1}/${size}`, bytes));
    expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_ERROR');
    expect(server.requests).toHaveLength(2);
  });

  test('a range that ends early is continued', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, half);
    const early = range(`bytes ${half.length}-${half.length + 999}/${size}`, tail.subarray(0, 1_000));
    const server = await badServer(early, serve(bytes));
    await bench.fetch([server]);
    expect(server.requests[1]?.headers.range).toBe(`bytes=${half.length + 1_000}-`);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a range without a byte in it, again and again, comes to an end', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, half);
    const server = await badServer(range(`bytes ${half.length}-${size - 1}/${size}`, new Uint8Array()));
    expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_UNREACHABLE');
    expect(server.requests.length).toBeLessThanOrEqual(10);
  });

  test('the file changed between two attempts: what was begun is thrown away', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, other.subarray(0, 1 << 19));
    await bench.leave(bench.etagPath, '"old"');
    const server = await badServer(serve(bytes, '"new"'));
    await bench.fetch([server]);
    expect(server.requests).toHaveLength(1);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a poisoned part costs one whole download and no more', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, other.subarray(0, 1 << 19));
    const server = await badServer(serve(bytes));
    await bench.fetch([server]);
    expect(server.requests.map((r) => r.headers.range)).toEqual([`bytes=${half.length}-`, undefined]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
    expect(bench.log.lines).toMatchObject([
      { event: 'artifact_refused', fields: { code: 'HASH_MISMATCH' } },
      { event: 'server_failed', fields: { code: 'HASH_MISMATCH', base: server.url } },
    ]);
  });

  test('a server that poisons and cuts, for ever, is left after a few attempts', async () => {
    const bench = await fetchBench(bytes);
    const poison = cutAfter(other, 1 << 19);
    const server = await badServer(poison);
    expect(await refusal(() => bench.fetch([server]))).toMatch(/^(SERVER_UNREACHABLE|HASH_MISMATCH)$/);
    expect(server.requests.length).toBeLessThanOrEqual(14);
    expect(await bench.content(bench.finalPath)).toBeNull();
  });

  test.each([
    ['the same', [400_000]],
    ['more and less in turn', [400_000, 100_000]],
  ])(
    'a server that ignores ranges and breaks off each time, after %s, is left after a few attempts',
    async (_title, cuts) => {
      const bench = await fetchBench(bytes);
      const cutAt =
        (sentBytes: number): Answer =>
        (request, response) => {
          delete request.headers.range;
          cutAfter(bytes, sentBytes)(request, response);
        };
      const answers = Array.from({ length: 40 }, (_, i) => cutAt(cuts[i % cuts.length] ?? 0));
      const server = await badServer(cutAt(cuts[0] ?? 0), ...answers.slice(1));
      expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_UNREACHABLE');
      expect(server.requests.length).toBeLessThanOrEqual(12);
    },
  );

  test('a part that is longer than the artifact is thrown away', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, new Uint8Array(bytes.length + 1));
    const server = await badServer(serve(bytes));
    await bench.fetch([server]);
    expect(server.requests[0]?.headers.range).toBeUndefined();
  });

  test('a weak ETag is no promise, and is not sent back', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(cutAfter(bytes, 300_000, 'W/"one"'), serve(bytes));
    await bench.fetch([server]);
    expect(server.requests[1]?.headers['if-range']).toBeUndefined();
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test.each(['"a"\r\nx-evil: 1', 'x'.repeat(5_000), ''])('an ETag file that holds %j is ignored', async (etag) => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, half);
    await bench.leave(bench.etagPath, etag);
    const server = await badServer(serve(bytes));
    await bench.fetch([server]);
    expect(server.requests[0]?.headers['if-range']).toBeUndefined();
    expect(server.requests[0]?.headers.range).toBe(`bytes=${half.length}-`);
  });
});
