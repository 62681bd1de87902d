import { afterEach, describe, expect, test, vi } from 'vitest';
import { sourceOf } from '../../src/delivery/source.ts';
import { type TrustedRelease, type TrustRequest, trustedRelease } from '../../src/delivery/trust.ts';
import { EMPTY_MEMORY } from '../../src/format/journal.ts';
import type { Channel, Product } from '../../src/format/manifest.ts';
import { undiciHttp } from '../../src/system/http.ts';
import {
  type Answer,
  type BadServer,
  badServer,
  drip,
  endless,
  serve,
  silence,
  status,
} from '../support/bad-server.ts';
import { bytesOf, edited, refusal, textOf } from '../support/documents.ts';
import { fakeClock, fixedRandom, recordedLog } from '../support/fakes.ts';
import { signedManifest, testKey } from '../support/keys.ts';

const http = undiciHttp();
afterEach(() => http.close());

const release = await signedManifest({ manifest: { sequence: 5 } });
const stranger = await signedManifest({ keys: [await testKey('stranger')] });
const LIMITS = { connectTimeoutMs: 500, headersTimeoutMs: 300, minBytesPerWindow: 1_000, windowMs: 300 };

interface Bench {
  readonly ask: (changes?: Partial<TrustRequest>) => ReturnType<typeof trustedRelease>;
  readonly log: ReturnType<typeof recordedLog>;
  readonly slept: readonly number[];
}

function bench(
  servers: readonly BadServer[],
  wanted: { product?: Product; channel?: Channel } = {},
  now?: string,
): Bench {
  const [log, clock] = [recordedLog(), fakeClock(now)];
  const [serverUrl = '', ...mirrors] = servers.map(({ url }) => url);
  const source = sourceOf({ serverUrl, mirrors, product: 'quantix-os', channel: 'dev', ...wanted });
  const ask = (changes: Partial<TrustRequest> = {}) =>
    trustedRelease(
      { http, clock, random: fixedRandom, log },
      {
        source,
        keyring: release.keyring,
        memory: EMPTY_MEMORY,
        installedVersion: '1.0.0',
        compatible: [],
        buildDateMs: Date.parse('2026-10-01T00:00:00Z'),
        isRoot: true,
        limits: LIMITS,
        ...changes,
      },
    );
  return { ask, log, slept: clock.slept };
}

const serving = async (...answers: [Answer, ...Answer[]]) => bench([await badServer(...answers)]);
const trusted = async (asked: ReturnType<typeof trustedRelease>): Promise<TrustedRelease> => {
  const answer = await asked;
  if (answer.kind !== 'release') throw new Error(`refused: ${answer.code} ${answer.detail}`);
  return answer;
};

describe('a release that is trusted', () => {
  test('comes with its name, its keys and its ETag', async () => {
    const { ask, log } = await serving(serve(release.envelope, '"e1"'));
    const answer = await trusted(ask());
    expect(answer.manifest).toEqual(release.manifest);
    expect(answer.keyIds).toEqual(['test-key']);
    expect(answer.digest).toMatch(/^[a-f0-9]{64}$/);
    expect(answer.known?.etag).toBe('"e1"');
    expect(answer.isUnchanged).toBe(false);
    expect(log.lines).toEqual([]);
  });

  test('is asked for on the paths of the documents', async () => {
    const server = await badServer(serve(release.envelope));
    const { ask } = bench([server]);
    await ask();
    await ask({ version: '1.1.0' });
    expect(server.requests.map((r) => r.url)).toEqual([
      '/api/v1/quantix-os/manifest/signed?channel=dev',
      '/api/v1/quantix-os/releases/1.1.0/manifest/signed?channel=dev',
    ]);
  });

  test('costs one 304 when nothing is new', async () => {
    const server = await badServer(serve(release.envelope, '"e1"'));
    const { ask } = bench([server]);
    const first = await trusted(ask());
    const second = await trusted(ask({ known: first.known }));
    expect(second).toEqual({ ...first, isUnchanged: true });
    expect(server.requests[1]?.headers['if-none-match']).toBe('"e1"');
  });

  test('comes from a mirror when the server is down', async () => {
    const [down, mirror] = [await badServer(silence), await badServer(serve(release.envelope))];
    await down.stop();
    const { ask, slept } = bench([down, mirror]);
    expect((await trusted(ask())).manifest.version).toBe('1.1.0');
    expect(slept).toEqual([]);
  });

  test('comes at the second attempt from a server that fails every second time', async () => {
    const { ask, slept } = await serving(status(500), serve(release.envelope));
    await trusted(ask());
    expect(slept).toEqual([500]);
  });
});

describe('what is not trusted is refused by a code, with one line in the log', () => {
  const withField = (name: string, value: unknown) =>
    edited(release.envelope, (envelope) => void Object.assign(envelope, { [name]: value }));
  const cases: readonly [string, Uint8Array, string, Partial<TrustRequest>?][] = [
    ['no JSON', bytesOf('<html>'), 'ENVELOPE_MALFORMED'],
    ['an unsigned manifest', release.manifestBytes, 'UNSIGNED'],
    ['a signature without meaning (T01)', withField('signature', ''), 'SIGNATURE_MALFORMED'],
    ['another algorithm (T02)', withField('algorithm', 'none'), 'ALGORITHM_UNSUPPORTED'],
    ["a stranger's key (T03)", stranger.envelope, 'KEY_UNKNOWN'],
    ['a changed manifest (T07)', bytesOf(textOf(release.envelope).replace('1.1.0', '1.1.1')), 'SIGNATURE_INVALID'],
    [
      'a replay (T12)',
      release.envelope,
      'SEQUENCE_REPLAYED',
      { memory: { ...EMPTY_MEMORY, high_water: { 'quantix-os/dev/1': 6 } } },
    ],
    ['a downgrade (T12)', release.envelope, 'DOWNGRADE', { installedVersion: '2.0.0' }],
    ['another version than was asked for', release.envelope, 'NOT_FOUND', { version: '3.0.0' }],
  ];

  test.each(cases)('%s', async (_title, envelope, code, changes = {}) => {
    const { ask, log } = await serving(serve(envelope));
    expect(await ask(changes)).toMatchObject({ kind: 'refusal', code });
    expect(log.lines).toMatchObject([
      { level: 'warn', event: 'release_refused', fields: { code, product: 'quantix-os' } },
    ]);
  });

  test('T10 a release of quantix-os where quantix-vdc was asked for', async () => {
    const server = await badServer(serve(release.envelope));
    expect(await bench([server], { product: 'quantix-vdc' }).ask()).toMatchObject({ code: 'WRONG_PRODUCT' });
    expect(await bench([server], { channel: 'stable' }).ask()).toMatchObject({ code: 'WRONG_CHANNEL' });
  });

  test('a mirror is not asked to overrule it', async () => {
    const [server, mirror] = [await badServer(serve(stranger.envelope)), await badServer(serve(release.envelope))];
    expect(await bench([server, mirror]).ask()).toMatchObject({ code: 'KEY_UNKNOWN' });
    expect(mirror.requests).toHaveLength(0);
  });

  test('T15 a release that expired while the server said that nothing changed', async () => {
    const expiring = await signedManifest({ manifest: { expires_at: '2026-11-15T00:00:00Z' } });
    const server = await badServer(serve(expiring.envelope, '"e1"'));
    const first = await trusted(bench([server]).ask());
    const { ask, log } = bench([server], {}, '2026-11-15T00:00:01Z');
    expect(await ask({ known: first.known })).toMatchObject({ code: 'EXPIRED' });
    expect(log.lines).toHaveLength(1);
    expect(server.requests).toHaveLength(2);
  });

  test('T12 a replay of what was known', async () => {
    const server = await badServer(serve(release.envelope, '"e1"'));
    const first = await trusted(bench([server]).ask());
    const memory = { ...EMPTY_MEMORY, high_water: { 'quantix-os/dev/1': 9 } };
    expect(await bench([server]).ask({ known: first.known, memory })).toMatchObject({ code: 'SEQUENCE_REPLAYED' });
  });

  test('a 304 to a question that named no ETag', async () => {
    const { ask } = await serving(status(304));
    expect(await refusal(() => ask())).toBe('SERVER_ERROR');
  });

  test.each([
    ['a page', status(200, { 'content-type': 'text/html' }, '<html>Please log in</html>')],
    ['a page of another kind', status(200, { 'content-type': 'Application/XHTML+xml; charset=utf-8' }, '<html/>')],
    ['a network that wants a log-in', status(511, {}, 'log in')],
    ['a proxy that wants one', status(407, {}, 'log in')],
  ])('%s in the place of the server is no attack', async (_what, answer) => {
    const { ask, log } = await serving(answer);
    await expect(ask()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE', next: expect.stringContaining('log-in') });
    expect(log.lines.map(({ event }) => event)).not.toContain('release_refused');
  });

  test('nothing published yet', async () => {
    const { ask } = await serving(status(404, {}, '{"error":"none"}'));
    expect(await ask()).toMatchObject({ kind: 'refusal', code: 'NO_RELEASE' });
  });
});

describe('a server that does not answer the question', () => {
  test('T21 an envelope without end is cut off at 1 MiB', async () => {
    const server = await badServer(endless());
    const { ask, log } = bench([server]);
    expect(await ask()).toMatchObject({ code: 'RESPONSE_TOO_LARGE' });
    expect(server.sentBytes()).toBeLessThan(16 << 20);
    expect(log.lines).toHaveLength(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('T21 a compressed envelope is not unpacked', async () => {
    const { ask } = await serving(status(200, { 'content-encoding': 'gzip' }, 'bomb'));
    expect(await refusal(() => ask())).toBe('SERVER_REFUSED');
  });

  test('T22 one byte at a time', async () => {
    const { ask } = await serving(drip(release.envelope, 10, 30));
    expect(
      await refusal(() => ask({ policy: { maxAttempts: 1, firstDelayMs: 1, maxDelayMs: 1, maxRetryAfterMs: 1 } })),
    ).toBe('DOWNLOAD_STALLED');
  });

  test('T25 a redirect is named and not followed', async () => {
    const elsewhere = await badServer(serve(release.envelope));
    const { ask, log } = await serving(status(302, { location: elsewhere.url }));
    expect(await refusal(() => ask())).toBe('REDIRECT_REFUSED');
    expect(log.lines).toMatchObject([{ event: 'release_unavailable', fields: { code: 'REDIRECT_REFUSED' } }]);
    expect(elsewhere.requests).toHaveLength(0);
  });

  test('nobody answers: every server was tried, with pauses, and then it is said', async () => {
    const servers = [await badServer(status(500)), await badServer(status(503))];
    const { ask, slept } = bench(servers);
    expect(await refusal(() => ask())).toBe('SERVER_ERROR');
    expect(servers.map((server) => server.requests.length)).toEqual([2, 2]);
    expect(slept).toHaveLength(1);
  });

  test('Retry-After is obeyed, within bounds', async () => {
    const { ask, slept } = await serving(
      status(429, { 'retry-after': '7' }),
      status(503, { 'retry-after': '86400' }),
      serve(release.envelope),
    );
    await trusted(ask());
    expect(slept).toEqual([7_000, 10_000]);
  });

  test.each([400, 401, 403, 418])('%i is final', async (code) => {
    const server = await badServer(status(code));
    expect(await refusal(() => bench([server]).ask())).toBe('SERVER_REFUSED');
    expect(server.requests).toHaveLength(1);
  });

  test('cancelled', async () => {
    const { ask } = await serving(silence);
    expect(await refusal(() => ask({ signal: AbortSignal.timeout(50) }))).toBe('CANCELLED');
  });
});
