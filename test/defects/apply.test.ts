import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { type Components, type Estate, openEstate } from '../support/estate.ts';
import { artifactOf } from '../support/keys.ts';
import { curl } from '../support/update-server.ts';

/** What went wrong while the ancestor downloaded and installed, against a real agent and a real server. */

const OLD = 'the old console\n';
/** Longer than what sockets hold, so that a line which stops is felt. */
const BIG_BYTES = 12 << 20;
const STOP_AT = 4 << 20;
const big = (): Components => ({ 'qx-console': new Uint8Array(randomBytes(BIG_BYTES)) });

interface Running extends Estate {
  readonly agent: RunningAgent;
  status(): Promise<{ status: string; message?: string; progress?: number }>;
  apply(): Promise<number>;
}

async function running(settings: readonly string[] = []): Promise<Running> {
  const estate = await openEstate(settings);
  const agent = await startAgent(estate.host.path);
  const socket = ['--unix-socket', join(estate.host.path, 'run/quantix/node.sock')];
  const api = 'http://localhost/api/v1/updates';
  return {
    ...estate,
    agent,
    status: async () => JSON.parse((await curl(...socket, `${api}/status`)).text),
    apply: async () => (await curl(...socket, '-X', 'POST', `${api}/apply`)).status,
  };
}

const settles = ({ status }: Running, wanted: string) =>
  expect.poll(async () => (await status()).status, { timeout: 30_000 }).toBe(wanted);

/** An update whose download stands still in the middle. */
async function stuck(): Promise<Running> {
  const estate = await running();
  await estate.publish('1.1.0', big());
  estate.line.stopAfter(STOP_AT);
  expect(await estate.apply()).toBe(200);
  await expect.poll(async () => (await estate.status()).progress ?? 0, { timeout: 20_000 }).toBeGreaterThan(10);
  return estate;
}

const partBytes = async ({ host }: Estate): Promise<number> => {
  const staging = join(host.path, 'data/updates/staging');
  const part = (await readdir(staging)).find((name) => name.endsWith('.part'));
  return part === undefined ? 0 : (await readFile(join(staging, part))).length;
};

test('defect 5: what was downloaded before the agent died is not downloaded again', async () => {
  const estate = await stuck();
  estate.agent.kill('SIGKILL');
  await estate.agent.ended;
  const heldBytes = await partBytes(estate);
  expect(heldBytes).toBeGreaterThan(1 << 20);
  estate.line.flow();

  await startAgent(estate.host.path);
  expect(await partBytes(estate)).toBe(heldBytes);
  expect((await estate.update('apply')).exitCode).toBe(0);
  const downloads = estate.line.asked.filter((path) => path.includes('.tar.zst'));
  expect(downloads.map((path) => path.split(' ')[1])).toEqual([undefined, `bytes=${heldBytes}-`]);
});

test('defect 6: only what is newer is downloaded, and what is not asked for stays as it is', async () => {
  const estate = await running();
  await estate.host.write('data/bin/host-tool', 'the tool\n', 0o755);
  await estate.host.write('data/versions/host-tool.version', '1.1.0\n');
  await estate.publish('1.1.0', { 'qx-console': 'new', 'host-tool': 'the same version, other bytes' });
  expect((await estate.update('apply')).exitCode).toBe(0);
  expect(estate.line.asked.filter((path) => path.includes('host-tool'))).toEqual([]);
  expect(await estate.read('data/bin/host-tool')).toBe('the tool\n');
  expect(await estate.read('data/bin/qx-console')).toBe('new');
});

test('defect 7: a full image of the version that runs is no update for ever', async () => {
  const estate = await running();
  const image = new TextEncoder().encode('a whole system image');
  await writeFile(join(estate.site.folder, 'image'), image);
  const full_image = { ...artifactOf('qx-console.tar.zst', image), requires_reboot: true };
  const { envelope } = await estate.sign('1.0.0', {}, { manifest: { update_type: 'full', full_image } });
  await writeFile(join(estate.site.folder, 'envelope.json'), envelope);
  const { field, publish } = estate.site;
  expect((await publish(...field('manifest', 'envelope.json'), ...field('full_image', 'image'))).status).toBe(201);
  expect((await estate.update('check')).exitCode).toBe(3);
  await settles(estate, 'up_to_date');
});

describe('defect 8: one update at a time', () => {
  test('a check in the middle does not hide it, nor let another one in', async () => {
    const estate = await stuck();
    for (let i = 0; i < 3; i++) {
      expect((await estate.update('check')).exitCode).toBe(0);
      expect((await estate.status()).status).toBe('downloading');
      expect(await estate.apply()).toBe(409);
    }
    estate.line.flow();
    await settles(estate, 'complete');
  });

  test('of many orders at the same moment one is taken', async () => {
    const estate = await running();
    await estate.publish('1.1.0', big());
    estate.line.stopAfter(STOP_AT);
    const statuses = await Promise.all(Array.from({ length: 8 }, () => estate.apply()));
    expect(statuses.toSorted()).toEqual([200, ...Array(7).fill(409)]);
  });
});

test('many checks at once are one question to the server', async () => {
  const estate = await running();
  await estate.publish('1.1.0', { 'qx-console': 'new' });
  estate.line.stopAfter(0);
  const url = `https://127.0.0.1:${estate.agent.port}/api/v1/updates/check`;
  const token = await readFile(join(estate.host.path, 'quantix/limiquantix/api-token'), 'utf8');
  const headers = { authorization: `Bearer ${token.trim()}` };
  const checks = Array.from({ length: 30 }, () => request(url, { rejectUnauthorized: false, headers }));
  const answers = checks.map(async (check) => ((await once(check, 'response')) as [IncomingMessage])[0].statusCode);
  await Promise.all(checks.map((check) => once(check.end(), 'finish')));
  await settles(estate, 'checking');
  estate.line.flow();
  expect(await Promise.all(answers)).toEqual(Array(30).fill(200));
  // One that arrived when the first was just answered is another one.
  expect(estate.line.asked.filter((path) => path.includes('/manifest/signed')).length).toBeLessThan(10);
});

test('defect 9: a failed download ends in an error, and the next order is taken without any reset', async () => {
  const estate = await stuck();
  await estate.withdraw('1.1.0');
  estate.line.cut();
  await settles(estate, 'error');
  expect(await estate.read('data/bin/qx-console')).toBe(OLD);
  estate.line.flow();
  await estate.publish('1.2.0', { 'qx-console': 'new' });
  expect((await estate.update('apply')).exitCode).toBe(0);
  expect(await estate.read('data/bin/qx-console')).toBe('new');
});

test('defect 10: progress moves, and says of what', async () => {
  const estate = await stuck();
  const status = await estate.status();
  expect(status).toMatchObject({ status: 'downloading', message: 'qx-console.tar.zst' });
  expect(status.progress).toBeLessThan(90);
  estate.line.flow();
  await settles(estate, 'complete');
});

test('checklist: SHA-256 verification fails on a corrupted download, and nothing is installed', async () => {
  const estate = await running();
  await estate.publish('1.1.0', { 'qx-console': 'new' });
  const artifact = estate.served('1.1.0', 'qx-console.tar.zst');
  const bytes = await readFile(artifact);
  await rm(artifact);
  await writeFile(
    artifact,
    bytes.map((byte) => byte ^ 1),
  );
  expect(await estate.update('apply')).toMatchObject({
    exitCode: 7,
    stderr: expect.stringContaining('[HASH_MISMATCH]'),
  });
  expect(await estate.read('data/bin/qx-console')).toBe(OLD);
  expect(await estate.read('data/versions/qx-console.version')).toBe('1.0.0\n');
  await settles(estate, 'error');
});

test('checklist: the backup of what is replaced is there before it is replaced', async () => {
  const estate = await running();
  await estate.publish('1.1.0', { 'qx-console': 'new' });
  expect((await estate.update('apply')).exitCode).toBe(0);
  const backups = join(estate.host.path, 'data/updates/backup/qx-console');
  const [name = ''] = await readdir(backups);
  expect(name).toMatch(/^[0-9]{8}T[0-9]{6}Z-1\.0\.0$/);
  expect(await readFile(join(backups, name, 'qx-console'), 'utf8')).toBe(OLD);
});
