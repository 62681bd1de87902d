import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { createAgent } from '../../src/agent/agent.ts';
import { check } from '../../src/agent/check.ts';
import { download } from '../../src/agent/download.ts';
import { install } from '../../src/agent/install.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { Release } from '../support/agent-releases.ts';
import { codeOf, expectGivenUp, expectRefusal, expectUntrusted, memoryGrowth } from '../support/attacks.ts';
import { type Answer, drip, endless, rangeStart, serve, silence } from '../support/bad-server.ts';
import { type Attacked, attackedHost, largeArchive, releaseOf } from '../support/hostile-site.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** Servers that do not end, do not begin, or say another length than they send. */

const PATIENCE = { minBytesPerWindow: 1_000, windowMs: 300, headersTimeoutMs: 1_000 };

const withLength =
  (length: number, body: Uint8Array): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-length': length });
    response.write(body, () => void setTimeout(() => response.destroy(), 20));
  };

const inChunks =
  (body: Uint8Array, trailers: Readonly<Record<string, string>> = { etag: '"another"' }): Answer =>
  (_request, response) => {
    response.writeHead(200, { trailer: Object.keys(trailers).join(', ') });
    response.write(body);
    response.addTrailers(trailers);
    response.end();
  };

requires({ commands: IMAGE_COMMANDS })('a body', () => {
  const bench = agentBench();
  const made = {} as { release: Release; archive: Uint8Array };
  beforeAll(async () => {
    made.archive = largeArchive();
    made.release = await releaseOf(bench, made.archive);
  });
  const expectClosed = ({ server }: Attacked) => expect.poll(() => server.openSockets(), { timeout: 10_000 }).toBe(0);
  const partBytes = async ({ host }: Attacked): Promise<number> => {
    const staging = join(host.root, 'data/updates/staging');
    const names = await readdir(staging).catch(() => []);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(staging, name))).size));
    return sizes.reduce((sum, size) => sum + size, 0);
  };

  describe('T21 of an envelope', () => {
    test.each<[string, () => Answer, string]>([
      ['without length and without end', () => endless(), 'RESPONSE_TOO_LARGE'],
      ['with a length of a terabyte', () => endless(200, { 'content-length': 2 ** 40 }), 'RESPONSE_TOO_LARGE'],
      ['longer than its Content-Length', () => withLength(100, made.release.envelope), 'ENVELOPE_MALFORMED'],
      ['shorter than its Content-Length', () => withLength(99_999, made.release.envelope), 'SERVER_UNREACHABLE'],
      [
        'in chunks with another length in a trailer',
        () => inChunks(made.release.envelope, { 'content-length': '1' }),
        'SERVER_UNREACHABLE',
      ],
      [
        'that is a gzip bomb',
        () => (_request, response) =>
          void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(64 << 20))),
        'SERVER_REFUSED',
      ],
    ])('T21 %s', async (_name, answer, code) => {
      const attacked = await attackedHost(bench, made.release, { envelope: answer() });
      expect(await memoryGrowth(() => expectUntrusted(attacked.host, code))).toBeLessThan(128 << 20);
      // Three journeys with four attempts each, and sockets buffer some.
      expect(attacked.server.sentBytes()).toBeLessThan(64 << 20);
      if (code === 'RESPONSE_TOO_LARGE') await expectClosed(attacked);
    });

    test('T21 in chunks with trailers that say otherwise: only the bytes count', async () => {
      const { host } = await attackedHost(bench, made.release, {
        envelope: inChunks(made.release.envelope),
      });
      expect(await codeOf(() => check(host, {}, { known: null }))).toBeNull();
    });
  });

  describe('T21 of an artifact', () => {
    test.each<[string, () => Answer, string]>([
      ['without length and without end', () => endless(), 'RESPONSE_TOO_LARGE'],
      ['with a larger Content-Length', () => withLength(made.archive.length + 1, made.archive), 'SIZE_MISMATCH'],
      ['with a smaller Content-Length', () => withLength(100, made.archive), 'SIZE_MISMATCH'],
      ['in chunks, one byte too long', () => inChunks(longer(made.archive)), 'RESPONSE_TOO_LARGE'],
      ['in chunks, one byte short', () => inChunks(made.archive.subarray(1)), 'SIZE_MISMATCH'],
      [
        'that was compressed on the way',
        () => (_request, response) =>
          void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(made.archive)),
        'SERVER_REFUSED',
      ],
    ])('T21 %s', async (_name, answer, code) => {
      const attacked = await attackedHost(bench, made.release, { artifact: [answer()] });
      expect(await memoryGrowth(() => expectGivenUp(attacked.host, code))).toBeLessThan(128 << 20);
      expect(await partBytes(attacked)).toBeLessThanOrEqual(made.archive.length);
      if (code === 'RESPONSE_TOO_LARGE') await expectClosed(attacked);
      // Fetched ahead of time nothing is begun, and it is refused all the same.
      await expectRefusal(attacked.host, code, () => download(attacked.host, {}, {}), ['data/updates']);
    });

    test('T21 in chunks with trailers that say otherwise: only the bytes count', async () => {
      const { host } = await attackedHost(bench, made.release, { artifact: [inChunks(made.archive)] });
      expect(await codeOf(() => install(host, {}, {}))).toBeNull();
    });
  });

  describe('T22 slow on purpose', () => {
    test.each<[string, () => Answer, string]>([
      ['one byte at a time', () => drip(made.release.envelope, 10, 20), 'DOWNLOAD_STALLED'],
      ['no answer at all', () => silence, 'SERVER_UNREACHABLE'],
    ])('T22 the envelope: %s', async (_name, answer, code) => {
      const { host } = await attackedHost(bench, made.release, { envelope: answer() }, PATIENCE);
      await expectRefusal(host, code, () => install(host, {}, {}));
    });

    test('T22 the artifact, one byte at a time: given up, the agent answers meanwhile, and what came is built upon', async () => {
      const slow = drip(made.archive, 100_000, 20);
      const attacked = await attackedHost(bench, made.release, { artifact: [slow] }, PATIENCE);
      const { host, server } = attacked;
      const agent = createAgent(host);
      const seen: string[] = [];
      await expectRefusal(
        host,
        'DOWNLOAD_STALLED',
        async () => {
          const end = agent.install({});
          await expect.poll(() => server.requests.length, { timeout: 20_000 }).toBeGreaterThan(1);
          seen.push((await agent.status()).status);
          const finished = await end;
          if (finished.kind === 'failed') throw finished.error;
        },
        ['quantix', 'data/updates'],
      );
      expect(seen).toEqual(['downloading']);
      const held = await partBytes(attacked);
      expect(held).toBeGreaterThanOrEqual(100_000);

      const good = await attackedHost(bench, made.release, { artifact: [serve(made.archive)] });
      const { config } = good.host;
      expect(await codeOf(() => install({ ...host, config, http: good.host.http }, {}, {}))).toBeNull();
      const from = rangeStart(good.server.requests.at(-1)) ?? 0;
      expect(from).toBeGreaterThanOrEqual(100_000);
    });
  });

  test('T21 a server that fails while the next release is fetched: the one that waits for its reboot stays', async () => {
    const host = await bench.host([await bench.release('2.0.0', { image: bench.image('2.0.0') })]);
    expect(await codeOf(() => install(host, {}, {}))).toBeNull();
    // With an image too: components alone would not even be asked for.
    const next = { components: { 'qx-console': '3.0.0' }, image: bench.image('3.0.0') };
    host.site.publish(await bench.release('3.0.0', next));
    host.site.spoil('qx-console.tar.zst', made.archive);
    await expectRefusal(host, 'SIZE_MISMATCH', () => install(host, {}, {}), ['data/updates']);
  });
});

const longer = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes, Buffer.from('x')]);
