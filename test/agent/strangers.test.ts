import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, test } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import { rotateToken } from '../../src/agent/token.ts';
import { hostFiles } from '../../src/system/files.ts';
import { hostFolder, startAgent } from '../support/agent.ts';
import { snapshot } from '../support/snapshot.ts';
import { curl } from '../support/update-server.ts';

/** A page in the administrator's browser can make it send requests here, under any name that leads to this host. */

async function open() {
  const host = await hostFolder();
  const agent = await startAgent(host.path);
  const token = (await readFile(join(host.path, 'quantix/limiquantix/api-token'), 'utf8')).trim();
  const base = `https://127.0.0.1:${agent.port}`;
  const statusOf = async (...args: readonly string[]) => (await curl('-k', ...args)).status;
  return { host, agent, token, base, statusOf, api: `${base}/api/v1/updates` };
}

const EVIL = ['-H', 'Origin: https://evil.example'];
const apply = (...args: readonly string[]) => ['-X', 'POST', ...args, '/apply'];
const preflight = ['-X', 'OPTIONS', ...EVIL, '-H', 'Access-Control-Request-Method: POST', '/apply'];
const absolute = ['--request-target', 'https://evil.example/api/v1/updates/apply'];

/** What is asked, with the token of this host or the one before it; each is an order that must come to nothing. */
const CASES: readonly [string, number, string, (shows: { right: string[]; old: string[] }) => readonly string[]][] = [
  ['no credential', 401, 'TOKEN_REQUIRED', () => apply()],
  ['a wrong one', 401, 'TOKEN_REFUSED', () => apply('-H', 'Authorization: Bearer wrong')],
  ['one that was replaced', 401, 'TOKEN_REFUSED', ({ old }) => apply(...old)],
  ['the token in the address', 401, 'TOKEN_REFUSED', () => ['-X', 'POST', '/apply?token=TOKEN']],
  ['GET for an order', 405, 'METHOD_NOT_ALLOWED', ({ right }) => [...right, '/apply']],
  ['a preflight of a foreign page', 405, 'METHOD_NOT_ALLOWED', () => preflight],
  ['a form of a foreign page', 403, 'FORBIDDEN', ({ right }) => apply(...right, ...EVIL, '-d', 'a=b')],
  ['a form without an origin', 401, 'TOKEN_REQUIRED', () => apply('-d', 'a=b')],
  [
    'a form in plain text, with the token',
    415,
    'MEDIA_TYPE_UNSUPPORTED',
    ({ right }) => apply(...right, '-H', 'Content-Type: text/plain', '-d', '{}'),
  ],
  ['a foreign origin', 403, 'FORBIDDEN', ({ right }) => apply(...right, ...EVIL)],
  ['an origin of nowhere', 403, 'FORBIDDEN', ({ right }) => apply(...right, '-H', 'Origin: null')],
  ['a foreign Host', 403, 'FORBIDDEN', ({ right }) => apply(...right, '-H', 'Host: evil.example')],
  ['a Host that leads here', 403, 'FORBIDDEN', ({ right }) => apply(...right, '-H', 'Host: 127.0.0.1.nip.io')],
  ['two Hosts', 400, 'BAD_REQUEST', ({ right }) => apply(...right, '-H', 'X: y\r\nHost: evil.example')],
  ['a target of another host', 403, 'FORBIDDEN', ({ right }) => apply(...right, ...absolute)],
];

test('T35 each order of a stranger has its code and one event, and changes nothing', async () => {
  const { host, token, api } = await open();
  const bearer = (secret: string): string[] => ['-H', `Authorization: Bearer ${secret}`];
  const shows = { old: bearer(token), right: bearer(await rotateToken(hostFiles(host.path))) };
  const before = await snapshot(host.path);
  const refusals = async () => (await readAudit(hostFiles(host.path))).events.filter(({ code }) => code !== undefined);
  const expected: string[] = [];
  for (const [what, status, code, order] of CASES) {
    const args = [...order(shows)];
    const path = (args.pop() ?? '').replace('TOKEN', shows.right[1]?.split(' ').at(-1) ?? '');
    const answer = await curl('-k', ...args, `${api}${path}`);
    expect([what, answer.status, JSON.parse(answer.text).code]).toEqual([what, status, code]);
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
    expected.push(code);
    await expect.poll(async () => (await refusals()).length).toBe(expected.length);
  }
  expect((await refusals()).map(({ event, code, actor }) => [event, code, actor])).toEqual(
    expected.map((code) => ['request_refused', code, '127.0.0.1']),
  );
  expect(await snapshot(host.path)).toEqual(before);
});

test('defect 1: requests under foreign names and from foreign pages are refused', async () => {
  const { base, api, token, statusOf } = await open();
  const bearer = ['-H', `Authorization: Bearer ${token}`];
  for (const name of ['evil.example', '127.0.0.1.nip.io', 'localhost.evil.example', 'evil.example@localhost', '']) {
    expect([name, await statusOf('-H', `Host: ${name}`, `${api}/status`)]).toEqual([name, 403]);
  }
  for (const origin of ['https://evil.example', 'null', 'http://127.0.0.1', `${base}.evil.example`]) {
    const asked = ['-X', 'POST', ...bearer, '-H', `Origin: ${origin}`, `${api}/apply`];
    expect([origin, await statusOf(...asked)]).toEqual([origin, 403]);
  }
  for (const site of ['cross-site', 'same-site']) {
    expect(await statusOf('-H', `Sec-Fetch-Site: ${site}`, '-H', 'Sec-Fetch-Mode: no-cors', `${api}/check`)).toBe(403);
  }
  const own = ['-H', `Origin: ${base}`, '-H', 'Sec-Fetch-Site: same-origin'];
  expect(await statusOf(...own, ...bearer, `${api}/status`)).toBe(200);
  expect(await statusOf(...bearer, '-H', 'Host: localhost', `${api}/status`)).toBe(200);
  expect(await statusOf('-H', 'Host: localhost', `${api}/status`)).toBe(401);
});

test('a preflight is answered without leave', async () => {
  const { api } = await open();
  const asked = ['-H', 'Origin: https://evil.example', '-H', 'Access-Control-Request-Method: POST', `${api}/apply`];
  const { status, headers } = await curl('-k', '-X', 'OPTIONS', ...asked);
  expect(status).toBeGreaterThanOrEqual(400);
  expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
});

test('a second Host header and a target of another host are refused', async () => {
  const { agent } = await open();
  const raw = (head: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ port: agent.port, host: '127.0.0.1', rejectUnauthorized: false });
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.on('end', () => resolve(Buffer.concat(chunks).toString().split('\r\n')[0] ?? ''));
      socket.on('error', reject);
      socket.write(`${head}\r\nConnection: close\r\n\r\n`);
    });
  const path = '/health';
  expect(await raw(`GET ${path} HTTP/1.1\r\nHost: localhost`)).toContain(' 200 ');
  expect(await raw(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example`)).toContain(' 400 ');
  expect(await raw(`GET https://evil.example${path} HTTP/1.1\r\nHost: localhost`)).toContain(' 403 ');
});

test('the page comes with a strict policy, and nothing outside its folder is handed out', async () => {
  const { host, base } = await open();
  expect((await curl('-k', `${base}/`)).status).toBe(404);
  await host.write('data/share/quantix-host-ui/index.html', '<!doctype html><title>Updates</title>');
  await host.write('data/share/quantix-host-ui/assets/app.js', 'export {};');
  const page = await curl('-k', `${base}/`);
  expect(page.text).toContain('<title>Updates</title>');
  expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
  expect(page.headers['content-security-policy']).toContain("default-src 'none'");
  expect((await curl('-k', `${base}/assets/app.js`)).headers['content-type']).toBe('text/javascript; charset=utf-8');
  const outside = [
    '/..%2f..%2f..%2fetc%2fquantix-version',
    '/assets/..%2findex.html',
    '/.hidden',
    '/%00',
    '/nothing.js',
  ];
  for (const path of outside) {
    const { status } = await curl('-k', '--path-as-is', `${base}${path}`);
    expect([path, status >= 400]).toEqual([path, true]);
  }
});
