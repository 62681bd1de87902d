import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, test, vi } from 'vitest';
import { rotateToken } from '../../src/agent/token.ts';
import { hostFiles } from '../../src/system/files.ts';
import { hostFolder, type RunningAgent, startAgent } from '../support/agent.ts';
import { curl } from '../support/update-server.ts';

/** Bytes of strangers against a real agent: what no proxy and no browser would send. */

vi.setConfig({ testTimeout: 120_000 });

async function open() {
  const host = await hostFolder();
  const agent = await startAgent(host.path);
  const token = (await readFile(join(host.path, 'quantix/limiquantix/api-token'), 'utf8')).trim();
  return { host, agent, token, base: `https://127.0.0.1:${agent.port}` };
}

/** Everything that is answered until the agent closes the connection, or `null` when it does not within ten seconds. */
function untilClosed({ port }: RunningAgent, ...pieces: readonly string[]): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      for (const piece of pieces) socket.write(piece, 'latin1');
    });
    const read: Buffer[] = [];
    const giveUp = setTimeout(() => {
      socket.destroy();
      resolve(null);
    }, 10_000);
    socket.on('data', (data: Buffer) => read.push(data));
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? undefined : reject(error)));
    socket.on('close', () => {
      clearTimeout(giveUp);
      resolve(Buffer.concat(read).toString('latin1'));
    });
  });
}

const HEAD = 'POST /api/v1/updates/apply HTTP/1.1\r\nHost: localhost\r\n';
const HIDDEN = 'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n';
const smuggled: readonly [string, number, string][] = [
  ['CL and TE', 400, `${HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`],
  ['TE and CL', 400, `${HEAD}Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n${HIDDEN}`],
  ['two CL that differ', 400, `${HEAD}Content-Length: 0\r\nContent-Length: 44\r\n\r\n${HIDDEN}`],
  ['two CL that agree', 400, `${HEAD}Content-Length: 0\r\nContent-Length: 0\r\n\r\n${HIDDEN}`],
  ['CL with a sign', 400, `${HEAD}Content-Length: +44\r\n\r\n${HIDDEN}`],
  ['CL that is a list', 400, `${HEAD}Content-Length: 0, 44\r\n\r\n${HIDDEN}`],
  ['obs-fold', 400, `${HEAD}X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n${HIDDEN}`],
  ['xchunked', 400, `${HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${HIDDEN}`],
  ['chunked twice', 400, `${HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${HIDDEN}`],
  ['a space before the colon', 400, `${HEAD}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${HIDDEN}`],
  ['a bare CR in a value', 400, `${HEAD}X-A: b\rTransfer-Encoding: chunked\r\n\r\n${HIDDEN}`],
  ['a bare LF as line end', 400, `GET /health HTTP/1.1\nHost: localhost\n\n`],
  ['a NUL in a value', 400, `${HEAD}X-A: b\0c\r\n\r\n`],
  ['a chunk size that overflows', 400, `${HEAD}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`],
  ['no HTTP at all', 400, '\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n'],
  ['64 KB of header fields', 431, `${HEAD}${`X-A: ${'a'.repeat(1000)}\r\n`.repeat(64)}\r\n`],
  ['a target of 64 KB', 431, `GET /${'a'.repeat(65_536)} HTTP/1.1\r\nHost: localhost\r\n\r\n`],
];

test('T42 what can be read in two ways is refused, and the connection closed before what hides behind it is read', async () => {
  const { agent, base } = await open();
  for (const [what, status, bytes] of smuggled) {
    const answer = await untilClosed(agent, bytes);
    const statuses = [...(answer ?? 'open').matchAll(/HTTP\/1\.1 ([0-9]{3})/g)].map(([, code]) => Number(code));
    expect([what, statuses]).toEqual([what, [status]]);
    expect([what, answer]).toEqual([what, expect.stringMatching(/"code":"(?:BAD_REQUEST|HEADERS_TOO_LARGE)"/)]);
  }
  const flood = HIDDEN.repeat(200);
  const answered = (await untilClosed(agent, flood))?.match(/HTTP\/1\.1 200/g)?.length ?? 0;
  expect(answered).toBeLessThan(200);
  expect((await curl('-k', `${base}/health`)).status).toBe(200);
});

test('a body that is announced and does not come is given up, as is half a header', async () => {
  const { agent, token } = await open();
  const head = `${HEAD}Authorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`;
  const late = (bytes: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port: agent.port, rejectUnauthorized: false }, () =>
        socket.write(bytes),
      );
      const drip = setInterval(() => socket.write(' '), 1000);
      const read: Buffer[] = [];
      socket.on('error', () => undefined).on('data', (data: Buffer) => read.push(data));
      socket.on('close', () => {
        clearInterval(drip);
        resolve(Buffer.concat(read).toString());
      });
    });
  const [body, header] = await Promise.all([late(head), late('GET /health HTTP/1.1\r\nHost: loc')]);
  for (const answer of [body, header]) expect(answer).toMatch(/^HTTP\/1\.1 408 [\s\S]*"code":"REQUEST_TIMEOUT"/);
});

test('T48 without a credential nobody learns a token, a name, a path or a version', async () => {
  const { agent, host, token, base } = await open();
  expect((await curl('-k', `${base}/health`)).text).toBe('{"status":"healthy"}');
  const paths = [
    '/api/v1/openapi.json',
    '/',
    '/metrics',
    '/api/v1/updates/plan',
    '/api/v1/updates/progress',
    '/nothing',
  ];
  const secrets = [token, host.path, '/quantix', '/data', 'node_modules', 'fastify', '1.0.0', '0.0.0', process.version];
  for (const path of [...paths, '/%ff', '/..%2f..%2fetc', '/api/v1/updates/apply']) {
    for (const more of [[], ['-X', 'POST', '--json', '{'], ['-X', 'DELETE']]) {
      const { status, text, headers } = await curl('-k', '--path-as-is', ...more, `${base}${path}`);
      expect([path, status]).toEqual([path, expect.toSatisfy((code: number) => code >= 400 && code < 500)]);
      const said = `${JSON.stringify(headers)} ${text}`;
      for (const secret of secrets) expect(said.includes(secret), `${path} says ${secret}: ${said}`).toBe(false);
      expect(headers).not.toHaveProperty('server');
      expect(headers).not.toHaveProperty('x-powered-by');
    }
  }
  const known = await curl('-k', '-H', `Authorization: Bearer ${token}`, `${base}/api/v1/openapi.json`);
  expect(JSON.parse(known.text)).toMatchObject({ openapi: '3.1.0' });
  expect(agent.output()).not.toContain('request_failed');
});

/** Every regular file below a folder, with its content. */
async function filesBelow(folder: string): Promise<[string, string][]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(files.map(async (file): Promise<[string, string]> => [file, await readFile(file, 'latin1')]));
}

test('T37, T43 whatever is asked, the token and the key stay where they are, and no line of the log is forged', async () => {
  const { agent, host, token, base } = await open();
  const key = (await readFile(join(host.path, 'quantix/limiquantix/tls.key'), 'utf8')).split('\n')[1] ?? '';
  const wrong = 'a-secret-of-another-host-that-was-mistyped';
  const api = `${base}/api/v1/updates`;
  const bearer = (secret: string) => ['-H', `Authorization: Bearer ${secret}`];
  const evil = '%0a%0d{"msg":"forged"}%1b[2J%e2%80%ae';
  const requests = [
    [...bearer(token), `${api}/plan`],
    [...bearer(token), '-X', 'POST', `${api}/apply`],
    [...bearer(token), '--json', '{"version":', `${api}/apply`],
    [
      ...bearer(token),
      '--json',
      JSON.stringify({ version: `1.0.0\n{"msg":"forged"}`, key_id: '\u001b[2J' }),
      `${api}/apply`,
    ],
    [...bearer(token), '--json', JSON.stringify({ components: [token] }), `${api}/apply`],
    [...bearer(wrong), '-A', '\u001b[2J\u202eforged', '--path-as-is', `${api}/plan`],
    [...bearer(token), `${base}/${evil}`],
    ['-H', `Authorization: Basic ${Buffer.from(`root:${token}`).toString('base64')}`, `${api}/plan`],
    [`${api}/plan?token=${token}`],
    ['-H', `Cookie: token=${token}`, `${api}/plan`],
    [...bearer(token), '-H', 'Host: evil.example', `${api}/plan`],
  ];
  for (const args of requests) {
    const { text, headers } = await curl('-k', '-g', ...args);
    for (const secret of [token, wrong, key]) expect(JSON.stringify(headers) + text).not.toContain(secret);
  }
  await untilClosed(agent, `${HEAD}Authorization: Bearer ${token}\r\nTransfer-Encoding: xchunked\r\n\r\n`);

  // A rotation counts at once, for the old token as for the new one.
  const rotated = await rotateToken(hostFiles(host.path));
  expect((await curl('-k', ...bearer(rotated), `${api}/progress`)).status).toBe(200);
  expect((await curl('-k', ...bearer(token), `${api}/progress`)).status).toBe(401);

  const argv = await readFile(`/proc/${agent.pid}/cmdline`, 'utf8');
  const environ = await readFile(`/proc/${agent.pid}/environ`, 'utf8');
  agent.kill('SIGTERM');
  await agent.ended;
  const output = agent.output();
  for (const secret of [token, rotated, wrong, key]) {
    for (const said of [argv, environ, output]) expect(said).not.toContain(secret);
    const holders = (await filesBelow(host.path)).filter(([, text]) => text.includes(secret)).map(([file]) => file);
    const places = holders.map((file) => file.slice(host.path.length));
    expect(places.filter((place) => !/^\/quantix\/limiquantix\/(?:api-token|tls\.key)$/.test(place))).toEqual([]);
  }
  const lines = output
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.map(({ msg }) => msg)).not.toContain('forged');
  expect(output).toMatch(/^[\x20-\x7e\n]+$/);
});
