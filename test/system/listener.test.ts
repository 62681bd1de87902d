import { once } from 'node:events';
import { stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Type } from 'typebox';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { QxError } from '../../src/errors.ts';
import type { RouteTable } from '../../src/format/route.ts';
import type { Admit, Caller, Handlers, Service } from '../../src/ports/serving.ts';
import { listenTcp, listenUnix } from '../../src/system/listener.ts';
import { temporaryFolder } from '../support/temp.ts';
import { curl } from '../support/update-server.ts';

const Body = Type.Object(
  { version: Type.Optional(Type.String({ pattern: '^[0-9.]+$' })) },
  { additionalProperties: false },
);

const ROUTES = {
  apply: {
    method: 'POST',
    path: '/apply/{name}',
    who: 'host-admin',
    summary: 'takes a body, or none',
    params: Type.Object({ name: Type.String({ pattern: '^[a-z]+$' }) }),
    query: Type.Object({ count: Type.Optional(Type.Integer({ minimum: 1 })) }),
    body: Type.Optional(Body),
    content: 'json',
    response: Type.Unknown(),
  },
  fails: { method: 'GET', path: '/fails', who: 'open', summary: '', content: 'json', response: Type.Unknown() },
  breaks: { method: 'GET', path: '/breaks', who: 'open', summary: '', content: 'file', response: Type.Unknown() },
  takes: {
    method: 'POST',
    path: '/takes',
    who: 'open',
    summary: '',
    body: 'multipart',
    content: 'json',
    response: Type.Unknown(),
  },
  waits: { method: 'GET', path: '/waits', who: 'open', summary: '', content: 'json', response: Type.Unknown() },
} as const satisfies RouteTable;

const seen: { caller: Caller | null; aborted: Promise<unknown> | null; logged: [string, object | undefined][] } = {
  caller: null,
  aborted: null,
  logged: [],
};

const handlers: Handlers<typeof ROUTES> = {
  apply: async ({ params, query, body, caller }) => {
    seen.caller = caller;
    return { json: { params, query, body: body ?? null } };
  },
  fails: async () => {
    throw new Error('secret detail at /etc/shadow');
  },
  breaks: async () => ({
    type: 'application/octet-stream',
    sizeBytes: 100,
    open: async () => {
      return (async function* () {
        yield new Uint8Array(10);
        throw new Error('disk failed');
      })();
    },
  }),
  takes: async ({ parts }) => {
    for await (const { bytes } of parts) for await (const _ of bytes);
    return { json: null };
  },
  waits: async ({ signal }) => {
    seen.aborted = once(signal, 'abort');
    await seen.aborted;
    throw signal.reason;
  },
};

const admit: Admit = (who, { via }) =>
  who === 'open' || via === 'unix'
    ? null
    : { refused: new QxError('FORBIDDEN', 'only on the Unix socket'), headers: { 'x-why': 'who' } };
const note = (event: string, fields?: object) => void seen.logged.push([event, fields]);
const service: Service<typeof ROUTES> = {
  title: 'test',
  version: '1.0.0',
  routes: ROUTES,
  handlers,
  admit,
  documentFor: 'host-admin',
  log: { info: note, warn: note },
};

let socket: string;
let url: string;

beforeEach(async () => {
  seen.logged = [];
  socket = join(await temporaryFolder(), 'node.sock');
  const [unix, tcp] = await Promise.all([
    listenUnix(service, socket),
    listenTcp(service, { host: '127.0.0.1', port: 0 }),
  ]);
  onTestFinished(async () => void (await Promise.all([unix.close(100), tcp.close(100)])));
  url = `http://127.0.0.1:${tcp.port}`;
});

const local = (...args: readonly string[]) => curl('--unix-socket', socket, ...args);

describe('on the Unix socket', () => {
  test('which only its owner can open, and which replaces a dead one', async () => {
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
    const path = join(await temporaryFolder(), 'stale.sock');
    await writeFile(path, '');
    const listening = await listenUnix(service, path);
    expect((await curl('--unix-socket', path, 'http://host/fails')).status).toBe(500);
    await listening.close(100);
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  test('a body is checked, and may be left out where the table says so', async () => {
    const answer = await local('--json', '{"version":"1.2.3"}', 'http://host/apply/all?count=2');
    expect(JSON.parse(answer.text)).toEqual({
      params: { name: 'all' },
      query: { count: 2 },
      body: { version: '1.2.3' },
    });
    expect(JSON.parse((await local('-X', 'POST', 'http://host/apply/all')).text)).toMatchObject({ body: null });
    expect(seen.caller).toMatchObject({ via: 'unix', address: 'unix' });
  });

  test.each([
    ['malformed JSON', 400, 'BAD_REQUEST', '{"version"'],
    ['a key twice', 400, 'BAD_REQUEST', '{"version":"1","version":"2"}'],
    ['an unknown key', 400, 'BAD_REQUEST', '{"versoin":"1"}'],
    ['a wrong value', 400, 'BAD_REQUEST', '{"version":"v1"}'],
    ['too large', 413, 'BODY_TOO_LARGE', JSON.stringify({ version: '1'.repeat(70_000) })],
  ])('a body is refused: %s', async (_why, status, code, body) => {
    const answer = await local('--json', body, 'http://host/apply/all');
    expect([answer.status, answer.headers['content-type']]).toEqual([status, 'application/problem+json']);
    expect(JSON.parse(answer.text)).toMatchObject({ code });
  });

  test('whoever is still sending a body that is too large hears why, and is not cut off', async () => {
    const body = JSON.stringify({ version: '1'.repeat(70_000) });
    const head = ['Host: a', 'Content-Type: application/json', `Content-Length: ${body.length}`];
    const client = connect(socket);
    onTestFinished(() => void client.destroy());
    client.write(`${['POST /apply/all HTTP/1.1', ...head].join('\r\n')}\r\n\r\n`);
    const [refused] = await once(client, 'data');
    expect(String(refused)).toMatch(/^HTTP\/1.1 413 /);
    client.write(`${body}GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n`);
    const [answered] = await once(client, 'data');
    expect(String(answered)).toMatch(/^HTTP\/1.1 404 /);
  });

  test('a multipart body is refused where JSON is expected', async () => {
    expect((await local('-F', 'version=1.0.0', 'http://host/apply/all')).status).toBe(415);
    expect((await local('-d', 'version=1.0.0', 'http://host/apply/all')).status).toBe(415);
  });
});

/** Not curl, which sends one of them. */
test.each(['/fails', '/nothing', 'http://one/fails'])(
  'two Host lines are refused on both listeners: %s',
  async (target) => {
    for (const peer of [connect(Number(new URL(url).port), '127.0.0.1'), connect(socket)]) {
      peer.write(`GET ${target} HTTP/1.1\r\nHost: one\r\nHost: two\r\nConnection: close\r\n\r\n`);
      const [data] = (await once(peer, 'data')) as [Buffer];
      peer.destroy();
      expect(String(data)).toMatch(/^HTTP\/1.1 400 /);
    }
  },
);

test('who may not call is refused before the body is judged', async () => {
  const answer = await curl('--json', '{', `${url}/apply/all`);
  expect([answer.status, answer.headers['x-why']]).toEqual([403, 'who']);
});

test('an unforeseen failure tells the log everything and the caller nothing', async () => {
  const answer = await curl(`${url}/fails`);
  expect([answer.status, JSON.parse(answer.text).code]).toEqual([500, 'INTERNAL']);
  expect(answer.text).not.toContain('shadow');
  expect(JSON.stringify(seen.logged)).toContain('secret detail at /etc/shadow');
});

test('a file that breaks off in the middle cuts the connection, so that nobody takes it for whole', async () => {
  await expect(curl(`${url}/breaks`)).rejects.toThrow(/transfer closed|end of response|reset/i);
  expect((await curl('-I', `${url}/breaks`)).headers['content-length']).toBe('100');
});

test('a caller who hangs up aborts what was done for him', async () => {
  await expect(curl('--max-time', '1', `${url}/waits`)).rejects.toThrow();
  await seen.aborted;
  expect(seen.aborted).not.toBeNull();
});

test('a caller who hangs up within a multipart body is no failure of ours', async () => {
  const head =
    'POST /takes HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 999\r\n\r\n';
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1' });
  socket.end(`${head}--b\r\ncontent-disposition: form-data; name="a"; fi`);
  socket.resume();
  await once(socket, 'close');
  await curl(`${url}/nothing`);
  await expect.poll(() => seen.logged).toContainEqual(['request', expect.objectContaining({ path: '/nothing' })]);
  expect(seen.logged.map(([event]) => event)).not.toContain('request_failed');
});

test('the log has the path of a request and never its query', async () => {
  await curl(`${url}/fails?token=secret`);
  await expect
    .poll(() => seen.logged)
    .toContainEqual(['request', expect.objectContaining({ path: '/fails', status: 500 })]);
  expect(JSON.stringify(seen.logged)).not.toContain('token=secret');
});
