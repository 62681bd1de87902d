import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { signedAnyway } from '../support/attacks.ts';
import { manifestOf } from '../support/keys.ts';
import { FULL_CONTENT, signedBy, snapshot } from '../support/publishing.ts';
import { type Answer, curl, TOKEN } from '../support/update-server.ts';
import { AUTHORIZED, openSite, type Site } from '../support/update-site.ts';

let site: Site;
beforeEach(async () => {
  site = await openSite();
});

test('T27, defect 31: no name in a request leaves the folder of the releases', async () => {
  await site.writeRelease();
  await site.publish(...site.allFields());
  await mkdir(join(site.folder, 'keys'));
  await writeFile(join(site.folder, 'keys/signing-private.key'), 'SECRET');
  await writeFile(join(site.folder, 'releases/quantix-os/dev/1.1.0/unlisted'), 'SECRET');
  const before = await snapshot(site.folder);
  const names = [
    '..',
    '.',
    '%2e%2e',
    '..%2f..%2fkeys',
    '%2fetc%2fpasswd',
    'a%00b',
    '-rf',
    '.hidden',
    'CON',
    'a%0ab',
    '%e2%80%ae',
    'x'.repeat(300),
    'unlisted',
    '%',
  ];
  const paths = names.flatMap((name) => [
    `quantix-os/releases/1.1.0/${name}`,
    `quantix-os/releases/${name}/manifest`,
    `${name}/manifest`,
    `quantix-os/manifest?channel=${name}`,
    `quantix-os/releases/etc/passwd?channel=../../..`,
    `quantix-os/releases/keys/signing-private.key?channel=../..`,
  ]);
  for (const path of paths) {
    const answer = await curl('--path-as-is', `${site.api}/${path}`);
    expect([path, answer.status]).toEqual([path, expect.toBeOneOf([400, 404])]);
    expect(answer.text).not.toMatch(/SECRET|root:|"stack"|\bat [\w.]+ \(/);
    const removed = await curl(
      '--path-as-is',
      '-X',
      'DELETE',
      ...AUTHORIZED,
      `${site.api}/${path.replace('/manifest', '')}`,
    );
    expect([path, removed.status]).toEqual([path, expect.toBeOneOf([400, 404, 405])]);
  }
  expect(await snapshot(site.folder)).toEqual(before);
});

test.each<[object, string]>([
  [{ version: '..' }, 'MANIFEST_INVALID'],
  [{ product: '../quantix-os' }, 'MANIFEST_INVALID'],
  [{ product: 'e\u0301' }, 'ENVELOPE_MALFORMED'],
])('T27 %j in a signed manifest is answered with 400, and the store is as before', async (fields, code) => {
  await site.writeRelease();
  const envelope = await signedAnyway({ ...manifestOf(FULL_CONTENT), ...fields }, 'os-key');
  await writeFile(join(site.folder, 'manifest.json'), envelope);
  const before = await snapshot(join(site.folder, 'releases'));
  const answer = await site.publish(...site.allFields());
  expect([answer.status, JSON.parse(answer.text).code]).toEqual([400, code]);
  expect(await snapshot(join(site.folder, 'releases'))).toEqual({ ...before, '.incoming': 'folder' });
});

describe('T37, T38: the token', () => {
  test('is asked for before the body is read, and the refusal reaches a client that still sends', async () => {
    await site.writeRelease();
    await writeFile(join(site.folder, 'big'), new Uint8Array(20 << 20));
    for (const header of [[], ['-H', 'Authorization: Bearer wrong']]) {
      const answer = await curl(
        '-X',
        'POST',
        `${site.api}/quantix-os/publish`,
        ...header,
        '-H',
        'Expect:',
        ...site.field('qx-node', 'big'),
      );
      expect([answer.status, answer.headers['www-authenticate']]).toEqual([401, 'Bearer']);
    }
    expect(await snapshot(join(site.folder, 'releases'))).toEqual({ '.lock': expect.any(String) });
  });

  test.each([
    ['wrong', 'HTTP/1.1 401 Unauthorized'],
    [TOKEN, 'HTTP/1.1 100 Continue'],
  ])('%s: a client that asks before it sends its body first hears %s', async (token, firstLine) => {
    const head = [
      'POST /api/v1/quantix-os/publish HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${token}`,
      'Content-Type: multipart/form-data; boundary=b',
      'Content-Length: 1000000',
      'Expect: 100-continue',
    ];
    const socket = connect(Number(new URL(site.server.url).port), '127.0.0.1');
    socket.write(`${head.join('\r\n')}\r\n\r\n`);
    const heard = await new Promise((resolve) => socket.once('data', (data) => resolve(data.toString())));
    socket.destroy();
    expect(String(heard).split('\r\n')[0]).toBe(firstLine);
  });

  test('is refused in the address, taken bare, and never logged', async () => {
    await site.writeRelease();
    expect(
      (await curl('-X', 'POST', `${site.api}/quantix-os/publish?token=${TOKEN}`, ...site.allFields())).status,
    ).toBe(401);
    const bare = ['-H', `Authorization: ${TOKEN}`];
    expect((await curl('-X', 'POST', `${site.api}/quantix-os/publish`, ...bare, ...site.allFields())).status).toBe(201);
    await curl(`${site.server.url}/nothing/${'x'.repeat(10)}?secret=${TOKEN}`);
    await expect.poll(() => site.server.output()).toContain('/nothing/xxxxxxxxxx');
    expect(site.server.output()).not.toContain(TOKEN);
    const lines = site.server.output().trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).program)).toEqual(lines.map(() => 'qx-update-server'));
  });

  test('after five wrong ones the address waits', async () => {
    const guess = () =>
      curl('-X', 'DELETE', '-H', 'Authorization: Bearer wrong', `${site.api}/quantix-os/releases/1.0.0`);
    const answers: Answer[] = [];
    // On a busy machine the first wait, of a second, may be over by the next guess; the waits double.
    while (answers.length < 6 || (answers.at(-1)?.status === 401 && answers.length < 12)) answers.push(await guess());
    const last = answers.pop();
    expect([answers.length >= 6, new Set(answers.map(({ status }) => status))]).toEqual([true, new Set([401])]);
    expect([last?.status, Number(last?.headers['retry-after']) > 0]).toEqual([429, true]);
  });

  test('with it, what nobody trusted signed is refused with a problem, and the store is as before', async () => {
    await site.writeRelease();
    await writeFile(join(site.folder, 'manifest.json'), await signedBy(site.keys.stranger));
    const answer = await site.publish(...site.allFields());
    expect([answer.status, answer.headers['content-type']]).toEqual([403, 'application/problem+json']);
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'KEY_UNKNOWN', status: 403 });
    expect(Object.keys(await snapshot(join(site.folder, 'releases'))).sort()).toEqual(['.incoming', '.lock']);
  });
});

describe('every refusal is a problem document', () => {
  test.each([
    ['unknown path', 404, 'NOT_FOUND', ['/nope']],
    ['wrong method', 405, 'METHOD_NOT_ALLOWED', ['-X', 'PUT', '/health']],
    ['bad escape', 400, 'BAD_REQUEST', ['/api/v1/%zz']],
    ['unknown product', 400, 'BAD_REQUEST', ['/api/v1/windows/manifest']],
    ['repeated query', 400, 'BAD_REQUEST', ['/api/v1/quantix-os/manifest?channel=dev&channel=stable']],
    [
      'JSON instead of parts',
      415,
      'MEDIA_TYPE_UNSUPPORTED',
      ['--json', '{}', ...AUTHORIZED, '/api/v1/quantix-os/publish'],
    ],
    ['text instead of parts', 415, 'MEDIA_TYPE_UNSUPPORTED', ['-d', 'x', ...AUTHORIZED, '/api/v1/quantix-os/publish']],
    ['no body at all', 400, 'BAD_REQUEST', ['-X', 'POST', ...AUTHORIZED, '/api/v1/quantix-os/publish']],
    [
      'parts without a boundary',
      400,
      'BAD_REQUEST',
      ['-H', 'Content-Type: multipart/form-data', '--data-binary', 'x', ...AUTHORIZED, '/api/v1/quantix-os/publish'],
    ],
    [
      'a boundary that is too long',
      400,
      'BAD_REQUEST',
      [
        '-H',
        `Content-Type: multipart/form-data; boundary=${'b'.repeat(300)}`,
        '--data-binary',
        'x',
        ...AUTHORIZED,
        '/api/v1/quantix-os/publish',
      ],
    ],
    ['header fields without measure', 431, 'HEADERS_TOO_LARGE', ['-H', `X-A: ${'a'.repeat(60_000)}`, '/health']],
    [
      'parts that do not end',
      400,
      'BAD_REQUEST',
      [
        '-H',
        'Content-Type: multipart/form-data; boundary=b',
        '--data-binary',
        '--b\r\nContent-Disposition: form-data; name="manifest"\r\n\r\nx',
        ...AUTHORIZED,
        '/api/v1/quantix-os/publish',
      ],
    ],
  ])('%s', async (_what, status, code, args) => {
    const answer = await curl(...args.slice(0, -1), `${site.server.url}${args.at(-1)}`);
    expect([answer.status, answer.headers['content-type']]).toEqual([status, 'application/problem+json']);
    const body = JSON.parse(answer.text);
    expect(body).toMatchObject({ code, status, error: body.detail });
    expect(answer.headers).not.toHaveProperty('server');
    expect(answer.text).not.toMatch(/node_modules|\.ts:|\bat [\w.]+ \(/);
  });

  test('and bytes that are no HTTP at all', async () => {
    const port = Number(new URL(site.server.url).port);
    const said = await new Promise<string>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write('\0\0nonsense\r\n\r\n'));
      const heard: Buffer[] = [];
      socket
        .on('data', (data) => heard.push(Buffer.from(data)))
        .on('close', () => resolve(Buffer.concat(heard).toString()));
    });
    expect(said).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(JSON.parse(said.slice(said.indexOf('\r\n\r\n')))).toMatchObject({ code: 'BAD_REQUEST', status: 400 });
    expect((await curl(`${site.server.url}/health`)).status).toBe(200);
  });
});
