import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { badServer, endless, serve, status } from '../support/bad-server.ts';
import { refusal } from '../support/documents.ts';
import { fetchBench, noise, STAGING } from '../support/fetch-bench.ts';

const bytes = noise(1 << 20);
const half = bytes.subarray(0, 1 << 19);
const other = noise(1 << 20, 2);

describe('T21 T24 a server that lies', () => {
  test('the right length and other bytes', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(serve(other));
    expect(await refusal(() => bench.fetch([server]))).toBe('HASH_MISMATCH');
    expect(server.requests).toHaveLength(1);
    expect(await readdir(bench.at(STAGING))).toEqual([]);
    expect(bench.log.lines).toHaveLength(1);
  });

  test.each([
    ['larger', bytes.length + 1],
    ['smaller', bytes.length - 1],
    ['enormous', Number.MAX_SAFE_INTEGER],
    ['nothing', 0],
  ])('a Content-Length that is %s: not a byte is stored', async (_title, contentLength) => {
    const bench = await fetchBench(bytes);
    const server = await badServer((_request, response) => {
      response.writeHead(200, { 'content-length': contentLength });
      response.write(contentLength === 0 ? '' : 'x');
      setTimeout(() => response.destroy(), 100);
    });
    expect(await refusal(() => bench.fetch([server]))).toBe('SIZE_MISMATCH');
    expect(server.requests).toHaveLength(1);
    expect(await bench.content(bench.partPath)).toBeNull();
  });

  test('too few bytes in chunks that are whole', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer((_request, response) => void response.writeHead(200).end(half));
    expect(await refusal(() => bench.fetch([server]))).toBe('SIZE_MISMATCH');
    expect(server.requests).toHaveLength(1);
  });

  test('no length, and the same break again and again: it comes to an end', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer((_request, response) => {
      response.useChunkedEncodingByDefault = false;
      response.writeHead(200, { connection: 'close' }).end(half);
    });
    expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_UNREACHABLE');
    expect(server.requests.length).toBeLessThanOrEqual(10);
    expect(await bench.content(bench.partPath)).toEqual(half);
  });

  const PAGE = '<html><body>Please accept our terms of use.</body></html>';
  const breaks: Parameters<typeof badServer>[0] = (_request, response) => {
    response.writeHead(200, { 'content-length': bytes.length, etag: '"one"' });
    response.write(half, () => setImmediate(() => response.destroy()));
  };

  test.each([
    ['a page with a length', status(200, { 'content-type': 'text/html', 'content-length': String(PAGE.length) }, PAGE)],
    ['a page in chunks', status(200, { 'content-type': 'text/html; charset=utf-8' }, PAGE)],
    ['text that does not say what it is, in chunks', status(200, {}, PAGE)],
    ['a redirect', status(302, { location: 'http://login.example/' })],
    ['a network that wants a log-in', status(511, { 'content-type': 'text/html' }, PAGE)],
    ['a proxy that wants one', status(407, {}, PAGE)],
    ['a 304 that nobody asked for', status(304)],
    ['a page with 502', status(502, { 'content-type': 'text/html' }, PAGE)],
    ['another encoding', status(200, { 'content-encoding': 'gzip' }, PAGE)],
  ])('%s in the place of the rest: what is held stays, and is gone on with', async (_what, answer) => {
    const bench = await fetchBench(bytes);
    const server = await badServer(breaks, answer);
    await refusal(() => bench.fetch([server]));
    const held = await bench.content(bench.partPath);
    expect(held?.length).toBeGreaterThan(0);
    expect(held).toEqual(bytes.subarray(0, held?.length));
    const later = await badServer(serve(bytes, '"one"'));
    await bench.fetch([later]);
    expect(later.requests[0]?.headers.range).toBe(`bytes=${held?.length}-`);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('a server that knows no ranges and breaks later each time is moved on with', async () => {
    const bench = await fetchBench(bytes);
    const upTo =
      (part: number): Parameters<typeof badServer>[0] =>
      (_request, response) => {
        response.writeHead(200, { 'content-length': bytes.length });
        response.write(bytes.subarray(0, bytes.length * part), () => setImmediate(() => response.destroy()));
      };
    const server = await badServer(upTo(0.5), upTo(0.25), upTo(0.75), upTo(1));
    await bench.fetch([server]);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
    expect(await readdir(bench.at(STAGING))).toHaveLength(1);
  });

  test('no length, and a connection that broke half way: gone on with', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer((_request, response) => {
      response.useChunkedEncodingByDefault = false;
      response.writeHead(200, { connection: 'close' }).end(half);
    }, serve(bytes));
    await bench.fetch([server]);
    expect(server.requests[1]?.headers.range).toBe(`bytes=${half.length}-`);
    expect(await bench.content(bench.finalPath)).toEqual(bytes);
  });

  test('no length, and no end: stopped at the signed size, on disk too', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(endless());
    expect(await refusal(() => bench.fetch([server]))).toBe('RESPONSE_TOO_LARGE');
    expect((await bench.content(bench.partPath))?.length ?? 0).toBeLessThanOrEqual(bytes.length);
    expect(await bench.content(bench.finalPath)).toBeNull();
  });

  test('a range without end: the same', async () => {
    const bench = await fetchBench(bytes);
    await bench.leave(bench.partPath, half);
    const server = await badServer(
      endless(206, { 'content-range': `bytes ${half.length}-${bytes.length - 1}/${bytes.length}` }),
    );
    expect(await refusal(() => bench.fetch([server]))).toBe('RESPONSE_TOO_LARGE');
    expect((await bench.content(bench.partPath))?.length).toBeLessThanOrEqual(bytes.length);
  });

  test('compressed on the way', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(status(200, { 'content-encoding': 'zstd' }, 'bomb'));
    expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_REFUSED');
  });

  test('T25 a redirect', async () => {
    const bench = await fetchBench(bytes);
    const elsewhere = await badServer(serve(bytes));
    const server = await badServer(status(307, { location: elsewhere.url }));
    expect(await refusal(() => bench.fetch([server]))).toBe('REDIRECT_REFUSED');
    expect(elsewhere.requests).toHaveLength(0);
  });

  test('no such artifact', async () => {
    const bench = await fetchBench(bytes);
    const server = await badServer(status(404));
    expect(await refusal(() => bench.fetch([server]))).toBe('SERVER_REFUSED');
    expect(server.requests).toHaveLength(1);
  });
});
