import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { startAgent } from '../support/agent.ts';
import { type Estate, openEstate } from '../support/estate.ts';
import { artifactOf, componentOf } from '../support/keys.ts';
import { snapshot } from '../support/publishing.ts';
import { curl } from '../support/update-server.ts';

/** Who may change what a host runs: a real agent against a real server whose disk, or whose operator, cannot be trusted. */

const OLD = 'the old console\n';
const untouched = async ({ host }: Estate) =>
  [await snapshot(join(host.path, 'data')), await snapshot(join(host.path, 'etc'))] as const;

test('defect 1: nobody can point the agent at another server, nor order anything without the token', async () => {
  const estate = await openEstate();
  await estate.publish('1.1.0', { 'qx-console': 'new' });
  const agent = await startAgent(estate.host.path);
  const token = (await estate.read('quantix/limiquantix/api-token'))?.trim();
  const socket = ['--unix-socket', join(estate.host.path, 'run/quantix/node.sock')];
  const api = '/api/v1/updates';
  const body = '{"serverUrl":"http://evil.example","server_url":"http://evil.example"}';
  for (const method of ['POST', 'PATCH', 'DELETE']) {
    const order = ['-X', method, '-H', `Authorization: Bearer ${token}`, '--json', body];
    expect((await curl(...order, ...socket, `http://localhost${api}/config`)).status).toBe(405);
    expect((await curl('-k', ...order, `https://127.0.0.1:${agent.port}${api}/config`)).status).toBe(405);
  }
  const change = ['-X', 'PUT', '--json', '{"serverUrl":"http://evil.example"}'];
  expect((await curl('-k', ...change, `https://127.0.0.1:${agent.port}${api}/config`)).status).toBe(401);
  // With the token a server may be named, in words that the agent knows. What it serves is signed all the same.
  const known = ['-H', `Authorization: Bearer ${token}`];
  const unknown = ['-X', 'PUT', '--json', body, ...known];
  expect((await curl('-k', ...unknown, `https://127.0.0.1:${agent.port}${api}/config`)).status).toBe(400);
  expect((await curl('-k', '-X', 'POST', `https://127.0.0.1:${agent.port}${api}/apply`)).status).toBe(401);
  await expect(curl(`http://127.0.0.1:${agent.port}${api}/status`)).rejects.toThrow();
  const config = JSON.parse((await curl('-k', ...known, `https://127.0.0.1:${agent.port}${api}/config`)).text);
  expect(config.serverUrl).toBe(estate.line.url);
  expect(await estate.read('data/bin/qx-console')).toBe(OLD);
});

describe('defect 2: what nobody trusted signed changes nothing:', () => {
  type Tamper = (estate: Estate) => Promise<unknown>;
  const change =
    (file: string, edit: (text: string) => string): Tamper =>
    async ({ served }) =>
      writeFile(served('1.1.0', file), edit(await readFile(served('1.1.0', file), 'latin1')), 'latin1');
  const envelope = 'manifest.signed.json';
  const cases: readonly (readonly [string, string, Tamper])[] = [
    [
      'a field changed',
      'SIGNATURE_INVALID',
      change(envelope, (text) => text.replace('/data/bin/qx-console', '/data/bin/qx-consolf')),
    ],
    [
      'no signature',
      'SIGNATURE_MALFORMED',
      change(envelope, (text) => JSON.stringify({ ...JSON.parse(text), signature: undefined })),
    ],
    [
      'an empty signature',
      'SIGNATURE_MALFORMED',
      change(envelope, (text) => JSON.stringify({ ...JSON.parse(text), signature: '' })),
    ],
    [
      'the key of a stranger',
      'KEY_UNKNOWN',
      async ({ sign, site, served }) =>
        writeFile(
          served('1.1.0', envelope),
          (await sign('1.1.0', { 'qx-console': 'evil' }, { key: site.keys.stranger })).envelope,
        ),
    ],
    [
      'the key of another product',
      'KEY_NOT_ALLOWED',
      async ({ sign, site, served }) =>
        writeFile(
          served('1.1.0', envelope),
          (await sign('1.1.0', { 'qx-console': 'evil' }, { key: site.keys.vdc })).envelope,
        ),
    ],
    [
      'other bytes of the same length',
      'HASH_MISMATCH',
      change('qx-console.tar.zst', (text) => `${text.slice(0, -1)}?`),
    ],
  ];
  test.each(cases)('%s', async (_what, code, tamper) => {
    const estate = await openEstate();
    await estate.publish('1.1.0', { 'qx-console': 'new' });
    await tamper(estate);
    await startAgent(estate.host.path);
    const before = await untouched(estate);
    const { exitCode, stderr } = await estate.update('apply');
    expect([exitCode, stderr]).toEqual([7, expect.stringContaining(`[${code}]`)]);
    // Where downloads wait; nothing runs from there.
    await rm(join(estate.host.path, 'data/updates'), { recursive: true, force: true });
    expect(await untouched(estate)).toEqual(before);
  });
});

test.each(['/etc/init.d/evil', '/data/versions/evil', '/data/bin/qx-node'])(
  'defect 3: a signed component for %s is refused before it is downloaded',
  async (install_path) => {
    const estate = await openEstate();
    const { archives } = await estate.sign('1.1.0', { evil: 'evil' });
    const bytes = await readFile(archives.evil ?? '');
    const component = { ...componentOf('evil', bytes, { install_path }), ...artifactOf('evil.tar.zst', bytes) };
    await estate.publish('1.1.0', { evil: 'evil' }, { components: [component] });
    await startAgent(estate.host.path);
    const before = await untouched(estate);
    expect(await estate.update('apply')).toMatchObject({
      exitCode: 7,
      stderr: expect.stringContaining('[PATH_NOT_ALLOWED]'),
    });
    expect(await untouched(estate)).toEqual(before);
    expect(estate.line.asked.filter((path) => path.includes('evil'))).toEqual([]);
  },
);

describe('defect 4, T12: an older release is not taken', () => {
  test('when the server goes back to it: not after a restart, a crash, a reboot or a lost cache either', async () => {
    const estate = await openEstate();
    await estate.publish('1.1.0', { 'qx-console': 'one' }, { sequence: 5 });
    await estate.publish('1.2.0', { 'qx-console': 'two' }, { sequence: 6 });
    const first = await startAgent(estate.host.path);
    expect((await estate.update('check')).exitCode).toBe(0);
    await estate.withdraw('1.2.0');
    const refused = { exitCode: 7, stderr: expect.stringContaining('[SEQUENCE_REPLAYED]') };
    expect(await estate.update('apply')).toMatchObject(refused);

    first.kill('SIGKILL');
    await first.ended;
    for (const lost of ['run', 'data/updates'])
      await rm(join(estate.host.path, lost), { recursive: true, force: true });
    await startAgent(estate.host.path);
    expect(await estate.update('apply')).toMatchObject(refused);
    expect(await estate.read('data/bin/qx-console')).toBe(OLD);
  });

  test('once a newer one was installed, with a new sequence too, except by root and by name', async () => {
    const estate = await openEstate();
    await estate.publish('1.2.0', { 'qx-console': 'two' }, { sequence: 6 });
    await startAgent(estate.host.path);
    expect((await estate.update('apply')).exitCode).toBe(0);
    await estate.withdraw('1.2.0');
    await estate.publish('1.1.0', { 'qx-console': 'one' }, { sequence: 7 });
    expect(await estate.update('apply')).toMatchObject({ exitCode: 7, stderr: expect.stringContaining('[DOWNGRADE]') });
    expect(await estate.read('data/bin/qx-console')).toBe('two');
    expect((await estate.update('apply', '--version', '1.1.0', '--allow-downgrade')).exitCode).toBe(0);
    expect(await estate.read('data/bin/qx-console')).toBe('one');
  });
});

describe('T13: rolling back', () => {
  test('takes back the last update, and never the one before', async () => {
    const estate = await openEstate();
    await startAgent(estate.host.path);
    for (const version of ['1.1.0', '1.2.0']) {
      await estate.publish(version, { 'qx-console': version });
      expect((await estate.update('apply')).exitCode).toBe(0);
    }
    expect((await estate.update('rollback')).exitCode).toBe(0);
    expect(await estate.read('data/bin/qx-console')).toBe('1.1.0');
    expect(await estate.update('rollback')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('[NOTHING_TO_ROLL_BACK]'),
    });
    expect(await estate.read('data/bin/qx-console')).toBe('1.1.0');
  });

  test('stops at the floor that a good release has set, by the CLI, by name, and over REST', async () => {
    const estate = await openEstate();
    const agent = await startAgent(estate.host.path);
    await estate.publish('1.1.0', { 'qx-console': 'one' });
    expect((await estate.update('apply')).exitCode).toBe(0);
    await estate.publish('1.2.0', { 'qx-console': 'two' }, { min_rollback_version: '1.2.0' });
    expect((await estate.update('apply')).exitCode).toBe(0);
    const refused = { exitCode: 7, stderr: expect.stringContaining('[BELOW_FLOOR]') };
    expect(await estate.update('rollback')).toMatchObject(refused);
    expect(await estate.update('apply', '--version', '1.1.0', '--allow-downgrade')).toMatchObject(refused);
    expect((await estate.update('apply', '--version', '0.9.0', '--allow-downgrade')).exitCode).not.toBe(0);
    const token = (await estate.read('quantix/limiquantix/api-token'))?.trim();
    const rest = `https://127.0.0.1:${agent.port}/api/v1/updates/rollback`;
    expect((await curl('-k', '-X', 'POST', '-H', `Authorization: Bearer ${token}`, rest)).status).toBe(409);
    expect(await estate.read('data/bin/qx-console')).toBe('two');
  });

  test('a memory that was spoilt is no way below the floor: root is asked', async () => {
    const estate = await openEstate();
    await startAgent(estate.host.path);
    await estate.publish('1.2.0', { 'qx-console': 'two' }, { min_rollback_version: '1.2.0' });
    expect((await estate.update('apply')).exitCode).toBe(0);
    await estate.host.write('quantix/limiquantix/state.json', '');
    await estate.publish('1.1.0', { 'qx-console': 'one' });
    for (const order of [['rollback'], ['apply'], ['apply', '--version', '1.1.0', '--allow-downgrade']]) {
      const refused = await estate.update(...order);
      expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining('[STATE_INVALID]\n  next: look')]);
    }
    expect(await estate.read('data/bin/qx-console')).toBe('two');
  });
});
