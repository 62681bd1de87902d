import { beforeAll, describe, expect, test } from 'vitest';
import { readAudit } from '../../src/agent/audit.ts';
import { install } from '../../src/agent/install.ts';
import { agentBench } from '../support/agent-bench.ts';
import type { Release } from '../support/agent-releases.ts';
import { codeOf, expectGivenUp, expectUntrusted, resigned } from '../support/attacks.ts';
import { type Answer, badServer, cutAfter, rawServer, serve, serveWhole, status } from '../support/bad-server.ts';
import {
  type Attacked,
  attackedHost,
  connections,
  largeArchive,
  realHttp,
  releaseOf,
} from '../support/hostile-site.ts';
import { IMAGE_COMMANDS } from '../support/images.ts';
import { requires } from '../support/requires.ts';

/** Servers that answer ranges with something else, send other bytes, or point somewhere else. */

requires({ commands: IMAGE_COMMANDS })('a server', () => {
  const bench = agentBench();
  const made = {} as { release: Release; archive: Uint8Array; other: Uint8Array };
  beforeAll(async () => {
    made.archive = largeArchive();
    made.other = largeArchive();
    made.release = await releaseOf(bench, made.archive);
  });
  const lying = (...artifact: readonly Answer[]) => attackedHost(bench, made.release, { artifact });
  const refusals = async ({ host }: Attacked) =>
    (await readAudit(host.files)).events.filter(({ code }) => code !== undefined).map(({ code }) => code);
  const expectInstalled = async (attacked: Attacked) => {
    expect(await codeOf(() => install(attacked.host, {}, {}))).toBeNull();
    expect(await refusals(attacked)).toEqual([]);
  };
  const cut = (): Answer => cutAfter(made.archive, 100_000);
  const range =
    (start: number, body: () => Uint8Array, headers: Readonly<Record<string, string>> = {}): Answer =>
    (_request, response) => {
      const { length } = made.archive;
      const contentRange = `bytes ${start}-${length - 1}/${length}`;
      response.writeHead(206, { 'content-range': contentRange, ...headers }).end(body());
    };

  describe('T23 ranges after a cut: the final hash decides', () => {
    test.each<[string, () => Answer]>([
      ['ignored', () => serveWhole(made.archive)],
      ['with a wrong start', () => range(99_999, () => made.archive.subarray(99_999))],
      ['of another ETag', () => range(100_000, () => made.other.subarray(100_000), { etag: '"two"' })],
      ['416', () => status(416)],
      ['with other bytes: the artifact changed in between', () => range(100_000, () => made.other.subarray(100_000))],
      ['500 every second time', () => status(500)],
    ])('T23 %s, and then a good answer: installed, and nobody is accused', async (_name, answer) =>
      expectInstalled(await lying(cut(), answer(), serve(made.archive))),
    );

    test('T23 500 every second time, for the envelope too', async () => {
      const count = { asked: 0 };
      const flaky =
        (good: Answer): Answer =>
        (request, response) =>
          (count.asked++ % 2 === 0 ? status(500) : good)(request, response);
      const attacked = await attackedHost(bench, made.release, {
        envelope: flaky(serve(made.release.envelope)),
        artifact: [flaky(serve(made.archive))],
      });
      await expectInstalled(attacked);
    });

    test.each<[string, () => Answer, string]>([
      ['poisoned ranges', () => range(100_000, () => made.other.subarray(100_000)), 'SERVER_ERROR'],
      ['nothing but 500', () => status(500), 'SERVER_ERROR'],
      ['nothing but cut lines', () => cutAfter(made.archive, 100, '"new"'), 'SERVER_UNREACHABLE'],
    ])('T23 %s for ever come to an end', async (_name, answer, code) => {
      const { host, server } = await lying(cut(), answer());
      await expectGivenUp(host, code);
      expect(server.requests.length).toBeLessThanOrEqual(16);
    });
  });

  describe('T24 other bytes', () => {
    test('T24 under the right address and of the right length', async () => {
      const changed = made.archive.map((byte, i) => (i === 5_000 ? byte ^ 1 : byte));
      const { host } = await lying(serve(changed));
      await expectGivenUp(host, 'HASH_MISMATCH');
    });

    test.each<[string, (sha256: string) => unknown]>([
      ['in capitals', (sha256) => sha256.toUpperCase()],
      ['of 63 characters', (sha256) => sha256.slice(1)],
      ['missing', () => undefined],
      ['an md5', () => 'd41d8cd98f00b204e9800998ecf8427e'],
      ['a sha1', () => 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
    ])('T24 a signed hash that is %s', async (_name, spoil) => {
      const [component] = made.release.manifest.components;
      const { sha256, ...rest } = { sha256: '', ...component };
      const spoilt = spoil(sha256);
      const components = [spoilt === undefined ? rest : { ...rest, sha256: spoilt }];
      await expectUntrusted(await bench.host([await resigned(made.release, { components })]), 'MANIFEST_INVALID');
    });

    test('T24 a signed sha1 or sha512 beside the SHA-256 decides nothing', async () => {
      const [component] = made.release.manifest.components;
      const components = [{ ...component, sha512: 'wrong', sha1: 'wrong' }];
      const release = await resigned(made.release, { components });
      await expectInstalled(await attackedHost(bench, release, {}));
    });
  });

  describe('T25 redirects', () => {
    const elsewhere = () => badServer(serve(made.archive));
    const targets: readonly [string, (url: string) => string][] = [
      ['another host', (url) => `${url}/x`],
      ['its own root, by a path', () => '/elsewhere'],
      ['plain http on another port', (url) => url.replace('127.0.0.1', 'localhost')],
      ['the metadata service', () => 'http://169.254.169.254/latest/meta-data/'],
      ["this host's own agent", () => 'https://127.0.0.1:8443/api/v1/updates/apply'],
      ['a file', () => 'file:///etc/shadow'],
      ['gopher', () => 'gopher://127.0.0.1:70/x'],
      ['CR and LF, encoded', (url) => `${url}/%0d%0aX-Evil:%201`],
    ];

    test.each(targets)('T25 to %s: nothing is asked of it', async (_name, location) => {
      const target = await elsewhere();
      const tried = connections();
      const redirect: Answer = (request, response) =>
        status(request.url?.includes('.tar.zst') ? 307 : 302, { location: location(target.url) })(request, response);
      const first = await attackedHost(bench, made.release, { envelope: redirect });
      await expectUntrusted(first.host, 'REDIRECT_REFUSED');
      const second = await lying(redirect);
      await expectGivenUp(second.host, 'REDIRECT_REFUSED');
      expect(target.requests).toHaveLength(0);
      const own = [first, second].map(({ server }) => new URL(server.url).host);
      expect(tried.filter((host) => !own.includes(host))).toEqual([]);
      expect(tried.length).toBeGreaterThan(0);
      // Where it points to is the server's word: it is in no record of ours.
      expect(JSON.stringify((await readAudit(second.host.files)).events)).not.toContain(location(target.url));
    });

    test.each([
      ['a bare CR', 'http://127.0.0.1:1/\rX-Evil: 1', 'SERVER_UNREACHABLE'],
      ['a second line', 'http://127.0.0.1:1/\r\n X-Evil: 1', 'SERVER_UNREACHABLE'],
      ['a header behind it', 'http://127.0.0.1:1/\r\nX-Evil: 1', 'REDIRECT_REFUSED'],
    ])('T25 with %s in Location', async (_name, location, code) => {
      const tried = connections();
      const server = await rawServer((socket) => {
        socket.end(`HTTP/1.1 302 Found\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`);
      });
      const host = await bench.host([], { settings: [`server_url: ${server.url}`] });
      await expectUntrusted({ ...host, http: realHttp() }, code);
      expect(new Set(tried)).toEqual(new Set([new URL(server.url).host]));
    });
  });

  describe('T26 a manifest that says where its artifacts are', () => {
    test.each([
      'http://evil.example/x',
      '//evil.example/x',
      '\\\\evil\\x',
      'user@evil.example',
      'http:x',
      '[::ffff:127.0.0.1]',
      'file:///etc/shadow',
    ])('T26 artifact %j', async (artifact) => {
      const [component] = made.release.manifest.components;
      const release = await resigned(made.release, { components: [{ ...component, artifact }] });
      await expectUntrusted(await bench.host([release]), 'MANIFEST_INVALID');
    });

    test('T26 a field with an address: it is fetched from the server of this host all the same', async () => {
      const target = await badServer(serve(made.archive));
      const tried = connections();
      const [component] = made.release.manifest.components;
      const components = [{ ...component, url: target.url, download_url: `${target.url}/x` }];
      const attacked = await attackedHost(bench, await resigned(made.release, { components }), {});
      await expectInstalled(attacked);
      expect(target.requests).toHaveLength(0);
      expect(new Set(tried)).toEqual(new Set([new URL(attacked.server.url).host]));
    });
  });
});
