import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { QxError } from '../../src/errors.ts';
import { detach } from '../../src/format/envelope.ts';
import type { HttpLimits, HttpResponse } from '../../src/ports.ts';
import { badServer, drip, endless, rawServer, serve, silence, status } from '../support/bad-server.ts';
import { bytesOf, refusal, textOf } from '../support/documents.ts';
import { noise } from '../support/fetch-bench.ts';
import { HTTP_WAYS } from '../support/http-ways.ts';
import { signedManifest } from '../support/keys.ts';

const LIMITS: HttpLimits = {
  maxBytes: 1 << 20,
  connectTimeoutMs: 2_000,
  headersTimeoutMs: 2_000,
  minBytesPerWindow: 1_000,
  windowMs: 300,
};
async function readAll({ body }: HttpResponse): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The other side's kernel has all of it: a reset throws away what this side still holds. */
async function untilDelivered({ localPort = 0 }: Socket): Promise<void> {
  const port = localPort.toString(16).toUpperCase().padStart(4, '0');
  const ours = new RegExp(`: [0-9A-F]{8}:${port} [0-9A-F:]+ 01 ([0-9A-F]{8}):`, 'g');
  await expect
    .poll(async () => [...(await readFile('/proc/net/tcp', 'latin1')).matchAll(ours)].map(([, queued]) => queued))
    .toEqual(['00000000']);
}

describe.each(HTTP_WAYS)('%s', (_way, open) => {
  const http = open();
  afterEach(() => http.close());

  const get = (url: string, limits: Partial<HttpLimits> = {}, signal?: AbortSignal) =>
    http.get(url, { limits: { ...LIMITS, ...limits }, ...(signal === undefined ? {} : { signal }) });

  const fetched = async (...request: Parameters<typeof get>) => readAll(await get(...request));

  test('status, headers in lower case, bytes', async () => {
    const { url } = await badServer(status(203, { 'X-Some': 'thing', etag: '"e"' }, 'hello'));
    const response = await get(url);
    expect(response.status).toBe(203);
    expect(response.headers).toMatchObject({ 'x-some': 'thing', etag: '"e"' });
    expect(textOf(await readAll(response))).toBe('hello');
  });

  test('protocols switched unasked are refused in our words, not in the source of the library', async () => {
    const { url } = await rawServer((socket) => socket.end('HTTP/1.1 101 Switching\r\nContent-Length: 1\r\n\r\nx'));
    await expect(get(url)).rejects.toThrow(
      new QxError('SERVER_UNREACHABLE', `${url} cannot be reached: its answer makes no sense`),
    );
  });

  test('a repeated header is joined', async () => {
    const { url } = await rawServer((socket) =>
      socket.end('HTTP/1.1 200 OK\r\nVary: a\r\nVary: b\r\nContent-Length: 0\r\n\r\n'),
    );
    expect((await get(url)).headers.vary).toBe('a, b');
  });

  test('only what the caller gave is sent', async () => {
    const server = await badServer(serve(bytesOf('x')));
    await readAll(await http.get(`${server.url}/a?b=c`, { headers: { range: 'bytes=0-' }, limits: LIMITS }));
    const { headers, method, url } = server.requests[0] ?? {};
    expect([method, url]).toEqual(['GET', '/a?b=c']);
    expect(Object.keys(headers ?? {}).sort()).toEqual(['connection', 'host', 'range']);
  });

  describe('an envelope is taken apart where it is received', () => {
    const asked = async (url: string) => http.get(url, { limits: LIMITS, isEnvelope: true });

    test('what comes is who signed what', async () => {
      const { envelope } = await signedManifest();
      const { url } = await badServer(serve(envelope));
      expect(textOf(await readAll(await asked(url)))).toBe(textOf(detach(envelope)));
    });

    test.each([
      ['no JSON', '{', 'ENVELOPE_MALFORMED'],
      ['no envelope', '{}', 'UNSIGNED'],
      ['another algorithm', '{"manifest":{},"signature":"","algorithm":"none"}', 'ALGORITHM_UNSUPPORTED'],
      ['no signature', '{"manifest":{},"algorithm":"ed25519"}', 'SIGNATURE_MALFORMED'],
    ])('%s is refused there', async (_title, text, code) => {
      const { url } = await badServer(serve(bytesOf(text)));
      expect(await refusal(async () => readAll(await asked(url)))).toBe(code);
    });

    test.each([304, 404, 503])('the body of a %i is none', async (answered) => {
      const { url } = await badServer(status(answered, {}, answered === 304 ? '' : 'no envelope'));
      const response = await asked(url);
      expect(response.status).toBe(answered);
      expect(textOf(await readAll(response))).toBe(answered === 304 ? '' : 'no envelope');
    });
  });

  describe('T25 a redirect is an answer like any other, and nobody follows it', () => {
    test.each([
      'http://169.254.169.254/latest',
      'https://127.0.0.1:8443/',
      'file:///etc/passwd',
      'gopher://evil/',
      '//evil.example/x',
      '/elsewhere',
    ])('to %s', async (location) => {
      const elsewhere = await badServer(status(200));
      const server = await badServer(status(302, { location: location === '/elsewhere' ? elsewhere.url : location }));
      expect((await get(server.url)).status).toBe(302);
      await sleep(20);
      expect([server.requests.length, elsewhere.requests.length]).toEqual([1, 0]);
    });

    test('with a line break in it', async () => {
      const server = await rawServer((socket) =>
        socket.end('HTTP/1.1 302 Found\r\nLocation: http://a/\r\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n'),
      );
      expect((await get(server.url)).status).toBe(302);
    });
  });

  test('compressed bytes stay as they are', async () => {
    const server = await badServer(status(200, { 'content-encoding': 'gzip' }, 'not really gzip'));
    expect(textOf(await fetched(server.url))).toBe('not really gzip');
  });

  describe('a connection that breaks', () => {
    const head = `HTTP/1.1 200 OK\r\ncontent-length: ${1 << 20}\r\n\r\n`;
    const WAYS = {
      ends: (socket: Socket) => socket.destroy(),
      'is reset': (socket: Socket) => socket.resetAndDestroy(),
    };

    test.each(
      [1, 100, 16_385, 60_000, 120_000].flatMap((sizeBytes) =>
        (['ends', 'is reset'] as const).map((how) => [sizeBytes, how] as const),
      ),
    )('after %i bytes and %s: each of them is handed on first, however late they are asked for', async (size, how) => {
      const sent = noise(size);
      const { url } = await rawServer(async (socket) => {
        socket.write(head);
        for (let at = 0; at < size; at += 40_000) {
          socket.write(sent.subarray(at, at + 40_000));
          await untilDelivered(socket);
        }
        WAYS[how](socket);
      });
      const { body } = await get(url);
      // Time to notice that the connection is gone.
      await sleep(150);
      const came: Uint8Array[] = [];
      const reading = async () => {
        for await (const chunk of body) came.push(chunk);
      };
      expect(await refusal(reading)).toBe('SERVER_UNREACHABLE');
      expect(Buffer.concat(came).equals(sent)).toBe(true);
    });
  });

  describe('T21 data without end', () => {
    test.each([
      ['without a length', {}],
      ['with a length that is larger than allowed', { 'content-length': 1 << 30 }],
    ])('%s is cut off, and the socket closed', async (_title, headers) => {
      const server = await badServer(endless(200, headers));
      let delivered = 0;
      const code = await refusal(async () => {
        for await (const chunk of (await get(server.url)).body) delivered += chunk.length;
      });
      expect(code).toBe('RESPONSE_TOO_LARGE');
      expect(delivered).toBeLessThanOrEqual(LIMITS.maxBytes);
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });

    test('headers without end', async () => {
      const server = await rawServer((socket) => {
        socket.write('HTTP/1.1 200 OK\r\n');
        const pump = () => {
          while (!socket.destroyed && socket.write(`X-Filler: ${'x'.repeat(1000)}\r\n`));
        };
        socket.on('drain', pump);
        pump();
      });
      expect(await refusal(() => get(server.url))).toBe('SERVER_UNREACHABLE');
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });

    test('trailers after the last chunk are not part of the body', async () => {
      const server = await rawServer((socket) =>
        socket.end(
          'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nhi\r\n0\r\nX: evil\r\n\r\n',
        ),
      );
      expect(textOf(await fetched(server.url))).toBe('hi');
    });

    test('two lengths that differ', async () => {
      const server = await rawServer((socket) =>
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nhi'),
      );
      expect(await refusal(() => fetched(server.url))).toBe('SERVER_UNREACHABLE');
    });

    test('more than the length that was announced is not delivered', async () => {
      const server = await rawServer((socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more'));
      expect(textOf(await fetched(server.url))).toBe('hi');
    });
  });

  describe('T22 a server that is slow on purpose', () => {
    test('one byte at a time', async () => {
      const server = await badServer(drip(new Uint8Array(5_000), 10, 30));
      expect(await refusal(() => fetched(server.url))).toBe('DOWNLOAD_STALLED');
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });

    test('nothing more after a good start', async () => {
      const server = await badServer(drip(new Uint8Array(50_000), 40_000, 100_000));
      expect(await refusal(() => fetched(server.url))).toBe('DOWNLOAD_STALLED');
    });

    test('no headers', async () => {
      const server = await badServer(silence);
      expect(await refusal(() => get(server.url, { headersTimeoutMs: 200 }))).toBe('SERVER_UNREACHABLE');
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });

    test('one header line after the other', async () => {
      const server = await rawServer((socket) => {
        socket.write('HTTP/1.1 200 OK\r\n');
        const timer = setInterval(() => socket.write('X-More: 1\r\n'), 50);
        socket.on('close', () => clearInterval(timer));
      });
      expect(await refusal(() => get(server.url))).toBe('SERVER_UNREACHABLE');
    });

    test('a reader that takes its time is not the server being slow', async () => {
      const server = await badServer(serve(new Uint8Array(200_000)));
      let total = 0;
      for await (const chunk of (await get(server.url)).body) {
        total += chunk.length;
        if (total < 200_000) await sleep(120);
      }
      expect(total).toBe(200_000);
    });

    test('a reader that begins late misses nothing', async () => {
      const sent = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
      const response = await get((await badServer(serve(sent))).url);
      await sleep(500);
      expect(Buffer.compare(await readAll(response), sent)).toBe(0);
    });

    test('a slow line that is fast enough', async () => {
      const server = await badServer((_request, response) => {
        response.writeHead(200, { 'content-length': 10_000 });
        let sent = 0;
        const timer = setInterval(() => {
          response.write(new Uint8Array(1_000));
          if (++sent === 10) clearInterval(timer);
        }, 100);
      });
      expect(await fetched(server.url)).toHaveLength(10_000);
    });
  });

  describe('a connection that fails', () => {
    test('nobody listens', async () => {
      const server = await badServer(silence);
      await server.stop();
      expect(await refusal(() => get(server.url))).toBe('SERVER_UNREACHABLE');
    });

    test('no such host', async () => {
      expect(await refusal(() => get('http://does-not-exist.invalid/'))).toBe('SERVER_UNREACHABLE');
    });

    test('no HTTP', async () => {
      const server = await rawServer((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n'));
      expect(await refusal(() => get(server.url))).toBe('SERVER_UNREACHABLE');
    });

    test('cut in the middle of the body', async () => {
      const server = await rawServer((socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'));
      expect(await refusal(() => fetched(server.url))).toBe('SERVER_UNREACHABLE');
    });

    test.each(['ftp://127.0.0.1/', 'file:///etc/passwd', 'http://user:secret@127.0.0.1/', 'data:text/plain,x'])(
      '%s is not fetched',
      async (url) => {
        expect(await refusal(() => get(url))).toBe('BAD_REQUEST');
      },
    );
  });

  describe('cancelled', () => {
    test('while waiting for headers', async () => {
      const server = await badServer(silence);
      expect(await refusal(() => get(server.url, {}, AbortSignal.timeout(50)))).toBe('CANCELLED');
    });

    test('while reading', async () => {
      const server = await badServer(drip(new Uint8Array(50_000), 20_000, 100_000));
      const signal = AbortSignal.timeout(100);
      expect(await refusal(() => fetched(server.url, { windowMs: 60_000 }, signal))).toBe('CANCELLED');
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });

    test('before it began', async () => {
      const server = await badServer(serve(bytesOf('x')));
      expect(await refusal(() => get(server.url, {}, AbortSignal.abort()))).toBe('CANCELLED');
      expect(server.requests).toHaveLength(0);
    });

    test('by leaving the loop: the connection is closed', async () => {
      const server = await badServer(endless());
      for await (const chunk of (await get(server.url)).body) {
        expect(chunk.length).toBeGreaterThan(0);
        break;
      }
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });

    test('without reading at all', async () => {
      const server = await badServer(endless());
      const { body } = await get(server.url);
      await body[Symbol.asyncIterator]().return?.();
      await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    });
  });

  test('close ends what is still open', async () => {
    const server = await badServer(endless());
    const response = await get(server.url, { maxBytes: 1 << 30 });
    const reading = refusal(() => readAll(response));
    await http.close();
    expect(await reading).toBe('SERVER_UNREACHABLE');
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('proxies of the environment are not asked', async () => {
    const proxy = await badServer(status(200, {}, 'from the proxy'));
    const server = await badServer(status(200, {}, 'direct'));
    for (const name of ['HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY']) vi.stubEnv(name, proxy.url);
    expect(textOf(await fetched(server.url))).toBe('direct');
    expect(proxy.requests).toHaveLength(0);
    vi.unstubAllEnvs();
  });
});
