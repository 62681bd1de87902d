import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { UploadPart } from '../../src/ports/upload.ts';
import { undiciUpload } from '../../src/system/upload.ts';

const limits = { maxResponseBytes: 1 << 16, connectTimeoutMs: 2000, stallTimeoutMs: 2000 };
const place: { dir: string; server?: Server } = { dir: '' };

beforeEach(async () => {
  place.dir = await mkdtemp(join(tmpdir(), 'qx-upload-'));
});
afterEach(async () => {
  place.server?.closeAllConnections();
  place.server?.close();
  await rm(place.dir, { recursive: true });
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  place.server = server;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/publish`;
}

async function fileOf(name: string, sizeBytes: number): Promise<UploadPart> {
  const path = join(place.dir, name);
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  return { name, fileName: name, sizeBytes, content: { path } };
}

const textPart = (name: string, text: string): UploadPart => {
  const content = new TextEncoder().encode(text);
  return { name, fileName: `${name}.json`, sizeBytes: content.length, content };
};

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test('another parser reads from the form exactly what was put in', async () => {
  const received: { form?: FormData; length?: string | undefined; total?: number; token?: string | undefined } = {};
  const url = await serve(async (request, response) => {
    const body = await bodyOf(request);
    const headers = { 'content-type': String(request.headers['content-type']) };
    received.form = await new Response(new Uint8Array(body), { headers }).formData();
    received.length = request.headers['content-length'];
    received.total = body.length;
    received.token = request.headers.authorization;
    response.writeHead(201).end('{"status":"published"}');
  });
  const path = join(place.dir, 'image');
  const image = 'line one\r\n--qx-\r\nline two';
  await writeFile(path, image);
  const file: UploadPart = {
    name: 'full_image',
    fileName: 'system.squashfs',
    sizeBytes: image.length,
    content: { path },
  };
  const progress: number[] = [];
  const answer = await undiciUpload().post(url, {
    headers: { authorization: 'Bearer t' },
    parts: [textPart('manifest', '{"ü":1}'), file, await fileOf('empty', 0)],
    limits,
    onSent: (sent, total) => progress.push(sent / total),
  });
  expect(answer.status).toBe(201);
  expect(new TextDecoder().decode(answer.body)).toBe('{"status":"published"}');
  const form = received.form ?? new FormData();
  const parts = [...form].map(([name, value]) => [name, (value as File).name]);
  expect(parts).toEqual([
    ['manifest', 'manifest.json'],
    ['full_image', 'system.squashfs'],
    ['empty', 'empty'],
  ]);
  expect(await (form.get('manifest') as File).text()).toBe('{"ü":1}');
  expect(await (form.get('full_image') as File).text()).toBe(image);
  expect(received).toMatchObject({ length: String(received.total), token: 'Bearer t' });
  expect(progress).toEqual([...progress].sort((a, b) => a - b));
  expect(progress.at(-1)).toBe(1);
});

test('half a gigabyte needs no more memory than a little', async () => {
  const url = await serve((request, response) => {
    request.resume().on('end', () => response.end('{}'));
  });
  const part = await fileOf('image', 512 << 20);
  const before = process.memoryUsage().rss;
  const seen = { peak: 0 };
  const onSent = () => {
    seen.peak = Math.max(seen.peak, process.memoryUsage().rss - before);
  };
  const { status } = await undiciUpload().post(url, { headers: {}, parts: [part], limits, onSent });
  expect(status).toBe(200);
  expect(seen.peak).toBeLessThan(160 << 20);
});

describe('ends in time and says why', () => {
  const post = (url: string, part: UploadPart, more = {}) =>
    undiciUpload().post(url, { headers: {}, parts: [part], limits, ...more });

  test('an answer that comes before the end, such as a refused token', async () => {
    const url = await serve((_request, response) => {
      response.writeHead(401, { 'content-type': 'application/json' }).end('{"code":"TOKEN_REFUSED"}');
    });
    const { status, body } = await post(url, await fileOf('image', 256 << 20));
    expect([status, new TextDecoder().decode(body)]).toEqual([401, '{"code":"TOKEN_REFUSED"}']);
  });

  test('nobody listens', async () => {
    await expect(post('http://127.0.0.1:1/', textPart('manifest', '{}'))).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
    });
  });

  test('a server that stops reading', async () => {
    const url = await serve((request) => void request.pause());
    await expect(post(url, await fileOf('image', 64 << 20))).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });

  test('a server that hangs up in the middle', async () => {
    const url = await serve((request) => void request.once('data', () => request.socket.destroy()));
    await expect(post(url, await fileOf('image', 64 << 20))).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });

  test('an answer without an end', async () => {
    const url = await serve((request, response) => {
      request.resume();
      response.writeHead(200);
      const more = () => response.write(Buffer.alloc(1 << 16)) || response.once('drain', more);
      for (let i = 0; i < 4; i++) more();
    });
    await expect(post(url, textPart('manifest', '{}'))).rejects.toMatchObject({ code: 'RESPONSE_TOO_LARGE' });
  });

  test('a redirect is an answer, and nothing is sent on', async () => {
    const seen: string[] = [];
    const url = await serve((request, response) => {
      seen.push(String(request.url));
      request.resume().on('end', () => response.writeHead(307, { location: '/elsewhere' }).end());
    });
    expect(await post(url, textPart('manifest', '{}'))).toMatchObject({ status: 307 });
    expect(seen).toEqual(['/publish']);
  });

  test('a file that becomes shorter while it is sent', async () => {
    const url = await serve((request) => void request.resume());
    const part = await fileOf('image', 64 << 20);
    const shrink = async () => {
      const handle = await open(join(place.dir, 'image'), 'r+');
      await handle.truncate(1000);
      await handle.close();
    };
    const cut = { done: false };
    const onSent = () => {
      if (cut.done) return;
      cut.done = true;
      void shrink();
    };
    await expect(post(url, part, { onSent })).rejects.toMatchObject({ code: 'SIZE_MISMATCH' });
  });

  test('a file that is gone', async () => {
    const url = await serve((request) => void request.resume());
    const part = { ...(await fileOf('image', 10)), content: { path: join(place.dir, 'gone') } };
    await expect(post(url, part)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('the caller’s own cancellation', async () => {
    const url = await serve((request) => void request.pause());
    const signal = AbortSignal.timeout(200);
    await expect(post(url, await fileOf('image', 64 << 20), { signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

test('a name that would end its header is not sent', async () => {
  const part = { ...textPart('manifest', '{}'), fileName: 'a"\r\nx: y' };
  await expect(
    undiciUpload().post('http://127.0.0.1:1/', { headers: {}, parts: [part], limits }),
  ).rejects.toMatchObject({
    code: 'BAD_REQUEST',
  });
});
