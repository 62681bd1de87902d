import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { HttpRequest } from '../../src/ports.ts';
import type { HttpOptions } from '../../src/system/http.ts';
import { authority, type Certificate } from '../support/certificates.ts';
import { refusal } from '../support/documents.ts';
import { HTTP_WAYS } from '../support/http-ways.ts';

const LIMITS = {
  maxBytes: 1_000,
  connectTimeoutMs: 1_000,
  headersTimeoutMs: 1_000,
  minBytesPerWindow: 1,
  windowMs: 1_000,
};
const [ours, theirs] = [await authority('ours'), await authority('theirs')];
const [good, agent] = [await ours.issue('127.0.0.1'), await ours.issue('agent')];

/** An HTTPS server that says who it is talking to, and what it was sent. */
async function httpsServer({ cert, key }: Certificate, onRequest: () => void = () => undefined): Promise<string> {
  const server = createServer(
    { cert, key, ca: ours.cert, requestCert: true, rejectUnauthorized: false },
    async (request, response) => {
      onRequest();
      const socket = request.socket as TLSSocket;
      const sent = await text(request);
      response.end((socket.authorized ? socket.getPeerCertificate().subject.CN : 'nobody') + sent);
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const refused: readonly [string, Certificate, HttpOptions][] = [
  ['no authority that this host knows', good, {}],
  ['another authority', await theirs.issue('127.0.0.1'), { ca: ours.cert }],
  ['another host', await ours.issue('updates.example'), { ca: ours.cert }],
  ['expired', await ours.issue('127.0.0.1', -1), { ca: ours.cert }],
];

const pinOf = ({ cert }: Certificate): string =>
  createHash('sha256')
    .update(new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');

describe.each(HTTP_WAYS)('%s', (_way, open) => {
  async function fetched(url: string, options: HttpOptions, tls: HttpRequest['tls'] = {}, body = ''): Promise<string> {
    const http = open(options);
    onTestFinished(() => http.close());
    const request = { limits: LIMITS, tls };
    const answer = await (body === '' ? http.get(url, request) : http.post(url, { ...request, body }));
    const chunks: Uint8Array[] = [];
    for await (const chunk of answer.body) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  }

  afterEach(() => vi.unstubAllEnvs());

  test('a server of the configured authority', async () => {
    expect(await fetched(await httpsServer(good), { ca: ours.cert })).toBe('nobody');
  });

  test('a client certificate is shown to it', async () => {
    const client = { certificate: agent.cert, key: agent.key };
    expect(await fetched(await httpsServer(good), { ca: ours.cert }, { client }, ' says so')).toBe('agent says so');
  });

  test('one that no authority vouches for is believed by its key, whatever its name', async () => {
    const stranger = await theirs.issue('updates.example', -1);
    const pin = pinOf(stranger);
    expect(await fetched(await httpsServer(stranger), {}, { pins: [pin] })).toBe('nobody');
    expect(await fetched(await httpsServer(stranger), {}, { pins: [pin], pinOnly: true })).toBe('nobody');
  });

  test('a key that the server will have later is believed as well', async () => {
    const next = await theirs.issue('updates.example');
    const pins = [pinOf(good), pinOf(next)];
    expect(await fetched(await httpsServer(next), {}, { pins })).toBe('nobody');
    expect(await fetched(await httpsServer(good), {}, { pins })).toBe('nobody');
  });

  test('beside the key an authority may vouch for it, unless only the key counts', async () => {
    const pin = pinOf(await ours.issue('127.0.0.1'));
    const trusted = { ca: ours.cert };
    expect(await fetched(await httpsServer(good), trusted, { pins: [pin] })).toBe('nobody');
    expect(
      await refusal(() => httpsServer(good).then((url) => fetched(url, trusted, { pins: [pin], pinOnly: true }))),
    ).toBe('SERVER_KEY_WRONG');
  });

  test('one with another key hears nothing, neither the secret nor the certificate', async () => {
    const heard: string[] = [];
    const url = await httpsServer(await theirs.issue('127.0.0.1'), () => void heard.push('a request'));
    const asked = fetched(url, {}, { pins: [pinOf(good)] }, 'secret');
    await expect(asked).rejects.toMatchObject({
      code: 'SERVER_KEY_WRONG',
      message: expect.stringContaining('its key is none that the fleet has told'),
    });
    expect(heard).toEqual([]);
  });

  describe('T39 refused', () => {
    test.each(refused)('%s', async (_title, certificate, options) => {
      const url = await httpsServer(certificate);
      expect(await refusal(() => fetched(url, options))).toBe('SERVER_UNREACHABLE');
      vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
      expect(await refusal(() => fetched(url, options))).toBe('SERVER_UNREACHABLE');
    });
  });
});
