import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from 'typebox';
import { transfer } from '../../../src/delivery/download.ts';
import { QxError } from '../../../src/errors.ts';
import type { RouteTable } from '../../../src/format/route.ts';
import type { Handlers } from '../../../src/ports/serving.ts';
import { hostFiles } from '../../../src/system/files.ts';
import { undiciHttp } from '../../../src/system/http.ts';
import { listenTcp } from '../../../src/system/listener.ts';
import { fakeClock } from '../../support/fakes.ts';
import type { Running, Target } from '../target.ts';

/** What comes over a socket: answers to our client, requests to our listener. */

const SIZE_BYTES = 100;
const HELD_BYTES = 10;
const body = 'x'.repeat(SIZE_BYTES);
const answer = (head: string, sent = body): string => `HTTP/1.1 ${head}\r\n\r\n${sent}`;
const long = (length: number): string => 'h'.repeat(length);

const DICTIONARY = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\0',
    ': ',
    ' ',
    ',',
    ';',
    '"',
    'HTTP/1.1 ',
    'HTTP/1.0 ',
    '\r\n\r\n',
    '0\r\n\r\n',
    '\r\nContent-Length: ',
  ],
  ...[
    '\r\nTransfer-Encoding: chunked',
    '\r\nContent-Encoding: gzip',
    '\r\nConnection: close',
    '\r\nConnection: upgrade\r\nUpgrade: x',
  ],
];

const response: Target = {
  name: 'http-response',
  seeds: {
    whole: answer(`200 OK\r\nContent-Length: ${SIZE_BYTES}\r\nETag: "one"`),
    'the rest': answer(
      '206 Partial Content\r\nContent-Range: bytes 10-99/100\r\nETag: "one"\r\nContent-Length: 90',
      body.slice(10),
    ),
    chunked: answer('200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x', `64\r\n${body}\r\n0\r\nx: y\r\n\r\n`),
    'until the end': answer('200 OK'),
    'older HTTP': `HTTP/1.0 200 OK\r\n\r\n${body}`,
    'no head': body,
    'another range': answer('206 P\r\nContent-Range: bytes 5-99/100'),
    'range of another file': answer('206 P\r\nContent-Range: bytes 10-99/100\r\nETag: "two"'),
    'range beyond all numbers': answer('206 P\r\nContent-Range: bytes 10-99999999999999999999/100'),
    'negative range': answer('206 P\r\nContent-Range: bytes -10-99/100'),
    'two ranges': answer('206 P\r\nContent-Range: bytes 10-99/100\r\nContent-Range: bytes 0-9/100'),
    'no such range': answer('416 R\r\nContent-Range: bytes */100', ''),
    'too much': answer('200 OK', body + body),
    'less than said': answer('200 OK\r\nContent-Length: 100', 'x'),
    'more than said': answer('200 OK\r\nContent-Length: 100', body + body),
    'another length': answer('200 OK\r\nContent-Length: 101'),
    'length twice': answer('200 OK\r\nContent-Length: 100\r\nContent-Length: 5'),
    'length and chunks': answer(
      '200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked',
      `64\r\n${body}\r\n0\r\n\r\n`,
    ),
    'huge length': answer('200 OK\r\nContent-Length: 99999999999999999999999'),
    'huge chunk': answer('200 OK\r\nTransfer-Encoding: chunked', `ffffffffffffffff\r\n${body}`),
    'folded header': answer('200 OK\r\nETag: "a\r\n b"'),
    'space before the colon': answer('200 OK\r\nContent-Length : 100'),
    'bare newlines': `HTTP/1.1 200 OK\nContent-Length: 100\n\n${body}`,
    'NUL in a header': answer('200 OK\r\nETag: "\0"'),
    '64 KB in a header': answer(`200 OK\r\nETag: "${long(65_536)}"`),
    '64 KB of headers': answer(`200 OK\r\n${'a: b\r\n'.repeat(11_000)}c: d`),
    gzip: answer('200 OK\r\nContent-Encoding: gzip'),
    'encoding that steers a terminal': Buffer.from(answer('200 OK\r\nContent-Encoding: \x9b31m'), 'latin1'),
    'upgrade unasked': answer('101 S\r\nContent-Length: 90'),
    'weak tag': answer('200 OK\r\nETag: W/"one"'),
    'a prototype': answer('200 OK\r\n__proto__: x\r\nconstructor: y'),
    redirect: answer('302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0', ''),
    'only informed': 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(100),
    'informed first': `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${answer('200 OK')}`,
    upgrade: answer('101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x'),
    later: answer('503 S\r\nRetry-After: 999999999\r\nContent-Length: 0', ''),
    'later, by date': answer('429 S\r\nRetry-After: Sun, 06 Nov 2094 08:49:37 GMT\r\nContent-Length: 0', ''),
    'not modified': answer('304 N', ''),
    'status 999': answer('999 X'),
    'a second answer': answer('200 OK\r\nContent-Length: 100') + answer('200 OK\r\nContent-Length: 100'),
    nothing: '',
  },
  dictionary: [
    ...DICTIONARY,
    '\r\nContent-Range: bytes ',
    'bytes 10-99/*',
    '\r\nETag: "one"',
    'W/',
    '\r\nRetry-After: ',
    '206',
    '416',
    '503',
    '100',
  ],
  refusals: /^SERVER_UNREACHABLE$/,
  start: downloading,
};

const LIMITS = { connectTimeoutMs: 2_000, headersTimeoutMs: 2_000, minBytesPerWindow: 1, windowMs: 2_000 };
const FAILURES =
  /^(SERVER_(UNREACHABLE|ERROR|REFUSED)|REDIRECT_REFUSED|RESPONSE_TOO_LARGE|SIZE_MISMATCH|DOWNLOAD_STALLED)$/;

/** A server that says those bytes to whoever asks, and a host that downloads from it: from nothing, and the rest of a part. */
async function downloading(): Promise<Running> {
  const root = await mkdtemp(join(tmpdir(), 'quantix-fuzz-'));
  const said: { bytes: Uint8Array } = { bytes: new Uint8Array(0) };
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(said.bytes));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const http = undiciHttp();
  const ports = { http, files: hostFiles(root), clock: fakeClock() };
  const artifact = { artifact: 'a', sha256: 'a'.repeat(64), size_bytes: SIZE_BYTES };
  const part = { artifact, partPath: '/part', etagPath: '/etag' };
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a`;
  const download = async (heldBytes: number): Promise<string> => {
    await writeFile(join(root, 'part'), body.slice(0, heldBytes));
    await writeFile(join(root, 'etag'), '"one"');
    const result = await transfer(ports, {
      url,
      part,
      heldBytes,
      limits: LIMITS,
      signal: undefined,
      onBytes: () => undefined,
    });
    const { size } = await stat(join(root, 'part'));
    assert.ok(size <= SIZE_BYTES);
    if (result.kind === 'done') assert.equal(size, SIZE_BYTES);
    if (result.kind === 'done') return result.kind;
    assert.match(result.error.code, FAILURES);
    // Nothing of the server's own words may steer a terminal or a log.
    assert.doesNotMatch(result.error.message, /\p{Cc}/u);
    return `${result.kind} ${result.error.code} ${result.error.message.replace(url, '')}`;
  };
  const run = async (bytes: Uint8Array): Promise<string> => {
    said.bytes = bytes;
    return `${await download(HELD_BYTES)}, ${await download(0)}`;
  };
  const close = async (): Promise<void> => {
    await http.close();
    await new Promise((resolve) => server.close(resolve));
    await rm(root, { recursive: true });
  };
  return { run, close };
}

const ROUTES = {
  json: {
    method: 'POST',
    path: '/json/{name}',
    who: 'open',
    summary: '',
    params: Type.Object({ name: Type.String({ pattern: '^[a-z]+$' }) }),
    query: Type.Object({ count: Type.Optional(Type.Integer({ minimum: 1 })) }),
    body: Type.Optional(Type.Object({ version: Type.String() }, { additionalProperties: false })),
    content: 'json',
    response: Type.Unknown(),
  },
  parts: {
    method: 'POST',
    path: '/parts',
    who: 'open',
    summary: '',
    body: 'multipart',
    content: 'json',
    response: Type.Unknown(),
  },
  file: { method: 'GET', path: '/file', who: 'open', summary: '', content: 'file', response: Type.Unknown() },
  closed: { method: 'PUT', path: '/closed', who: 'publisher', summary: '', content: 'json', response: Type.Unknown() },
} as const satisfies RouteTable;

const handlers: Handlers<typeof ROUTES> = {
  json: async ({ params, query, body }) => {
    assert.match(params.name, /^[a-z]+$/);
    return { json: { params, query, body: body ?? null } };
  },
  parts: async ({ parts }) => {
    const sizes: number[] = [];
    for await (const { bytes } of parts) {
      let sizeBytes = 0;
      for await (const piece of bytes) sizeBytes += piece.length;
      sizes.push(sizeBytes);
    }
    return { json: sizes };
  },
  file: async () => ({ bytes: Buffer.from(body), type: 'application/octet-stream' }),
  closed: async () => assert.fail('nobody may be let in here'),
};

const asked = (line: string, headers: string, sent = ''): string =>
  `${line} HTTP/1.1\r\nHost: a\r\n${headers}\r\n${sent}`;
const json = (sent: string): string =>
  asked('POST /json/a?count=2', `Content-Type: application/json\r\nContent-Length: ${sent.length}\r\n`, sent);
const multipart = (boundary: string, sent: string): string =>
  asked(
    'POST /parts',
    `Content-Type: multipart/form-data; boundary=${boundary}\r\nContent-Length: ${sent.length}\r\n`,
    sent,
  );
const PART = '--b\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nbytes\r\n--b--\r\n';

const request: Target = {
  name: 'http-request',
  seeds: {
    json: json('{"version":"1"}'),
    parts: multipart('b', PART),
    file: asked('GET /file', ''),
    head: asked('HEAD /file', ''),
    'not let in': asked('PUT /closed', 'Content-Length: 4\r\nExpect: 100-continue\r\n', 'body'),
    'length and chunks': asked(
      'POST /json/a',
      'Content-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n',
      '0\r\n\r\nGET /file HTTP/1.1\r\n\r\n',
    ),
    'chunks twice': asked('POST /json/a', 'Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n'),
    'chunks in disguise': asked('POST /json/a', 'Transfer-Encoding: xchunked\r\n', '0\r\n\r\n'),
    'length twice': asked('POST /json/a', 'Content-Length: 4\r\nContent-Length: 5\r\n', 'body'),
    'negative length': asked('POST /json/a', 'Content-Length: -1\r\n'),
    'huge chunk': asked(
      'POST /json/a',
      'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n',
      'fffffffff\r\nx',
    ),
    'chunk extension': asked(
      'POST /json/a',
      'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n',
      `2;${long(300)}\r\n{}\r\n0\r\n\r\n`,
    ),
    'folded header': asked('GET /file', 'A: b\r\n c\r\n'),
    'space before the colon': asked('GET /file', 'Content-Length : 0\r\n'),
    'bare newlines': 'GET /file HTTP/1.1\nHost: a\n\n',
    'two hosts': asked('GET /file', 'Host: b\r\n'),
    'no host': 'GET /file HTTP/1.1\r\n\r\n',
    'a host in the target': 'GET http://evil/file HTTP/1.1\r\nHost: a\r\n\r\n',
    'a host in the target, and none': 'GET http:// HTTP/1.1\r\nHost: a\r\n\r\n',
    asterisk: asked('OPTIONS *', ''),
    connect: 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
    'HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'older HTTP': 'GET /file HTTP/1.0\r\n\r\n',
    'oldest HTTP': 'GET /file\r\n',
    TLS: Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3),
    '64 KB of headers': asked('GET /file', 'a: b\r\n'.repeat(11_000)),
    '64 KB in the target': asked(`GET /${long(65_536)}`, ''),
    'target that is no escape': asked('GET /json/%zz%', ''),
    'target above the top': asked('GET /../../%2e%2e%2fetc/passwd', ''),
    'a NUL in the target': asked('GET /json/%00', ''),
    'a long parameter': asked(`POST /json/${long(201)}`, ''),
    'a query of prototypes': asked('POST /json/a?__proto__[x]=1&constructor=2&count=1&count=2', ''),
    'body of prototypes': json('{"version":"1","__proto__":{"x":1}}'),
    'body of 200 levels': json('['.repeat(200)),
    'body of 100 KB': json(`{"version":"${long(100_000)}"}`),
    'body of another type': asked('POST /json/a', 'Content-Type: text/plain\r\nContent-Length: 2\r\n', '{}'),
    'a type of nonsense': asked('POST /json/a', 'Content-Type: ;;;=,\r\nContent-Length: 2\r\n', '{}'),
    'compressed body': asked(
      'POST /json/a',
      'Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n',
      '{}',
    ),
    'a part without end': multipart('b', PART.slice(0, -9)),
    'hung up in the head of a part': multipart('b', PART).slice(0, -30),
    'no boundary': asked('POST /parts', 'Content-Type: multipart/form-data\r\nContent-Length: 2\r\n', '--'),
    'a long boundary': multipart(long(71), PART),
    'an empty boundary': multipart('""', PART),
    'a part of prototypes': multipart('b', PART.replace('name="a"', 'name="__proto__"')),
    'a part without name': multipart('b', PART.replace(' name="a";', '')),
    'a part that is no file': multipart('b', PART.replace('; filename="a"', '')),
    'a part with many headers': multipart('b', PART.replace('\r\n\r\n', `\r\n${'a: b\r\n'.repeat(100)}\r\n`)),
    'a part with a long header': multipart('b', PART.replace('\r\n\r\n', `\r\na: ${long(100_000)}\r\n\r\n`)),
    '600 parts': multipart('b', `${PART.slice(0, -7).repeat(600)}--b--\r\n`),
    'one request after another':
      asked('GET /file', '') + json('{"version":"1"}') + asked('GET /file', 'Connection: close\r\n'),
    upgrade: asked('GET /file', 'Connection: upgrade\r\nUpgrade: websocket\r\n'),
    'a range of ranges': asked('GET /file', `Range: bytes=${'0-,'.repeat(1000)}\r\n`),
  },
  dictionary: [
    ...DICTIONARY,
    ' /json/a',
    ' /parts',
    ' /file',
    '?count=1',
    '%00',
    '%2e',
    'Expect: 100-continue\r\n',
    'Host: a\r\n',
    'Content-Type: application/json\r\n',
    '--b',
    '--b--',
    'filename="a"',
    'name=',
    '__proto__',
    'boundary=b',
    '{"version":"1"}',
    'GET',
    'POST',
    'PUT',
    'OPTIONS',
  ],
  refusals: /^nothing is refused$/,
  start: listening,
};

async function listening(): Promise<Running> {
  const seen = { failures: [] as string[] };
  const log = {
    info: () => undefined,
    warn: (event: string, fields?: object) => void seen.failures.push(`${event} ${JSON.stringify(fields)}`),
  };
  const admit = (who: string) => (who === 'open' ? null : { refused: new QxError('FORBIDDEN', 'nobody is let in') });
  const service = {
    documentFor: 'open' as const,
    title: 'fuzz',
    version: '0.0.0',
    routes: ROUTES,
    handlers,
    admit,
    log,
  };
  const server = await listenTcp(service, { host: '127.0.0.1', port: 0 });
  const run = async (bytes: Uint8Array): Promise<string> => {
    seen.failures = [];
    const answers = await say(server.port, bytes);
    assert.deepEqual(seen.failures, []);
    // Whatever was no request is told so, or simply cut.
    assert.match(answers.toString('latin1'), /^(?:HTTP\/1\.1 [1-4][0-9]{2} |$)/);
    return /"detail":"([^"]*)/.exec(answers.toString('latin1'))?.[1] ?? '';
  };
  return { run, close: () => server.close(0) };
}

/** Says all of it, hangs up on this side, and waits for the other side to do so. */
async function say(port: number, bytes: Uint8Array): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const answers: Buffer[] = [];
  socket.on('data', (piece: Buffer) => void answers.push(piece));
  socket.on('error', () => undefined);
  socket.on('end', () => socket.destroy());
  socket.end(bytes);
  await once(socket, 'close');
  return Buffer.concat(answers);
}

export const http: readonly Target[] = [response, request];
