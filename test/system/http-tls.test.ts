import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
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

/** An HTTPS server that says who it is talking to. */
async function httpsServer({ cert, key }: Certificate): Promise<string> {
  const server = createServer(
    { cert, key, ca: ours.cert, requestCert: true, rejectUnauthorized: false },
    (request, response) => {
      const socket = request.socket as TLSSocket;
      response.end(socket.authorized ? socket.getPeerCertificate().subject.CN : 'nobody');
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

describe.each(HTTP_WAYS)('%s', (_way, open) => {
  async function fetched(url: string, options: HttpOptions): Promise<string> {
    const http = open(options);
    onTestFinished(() => http.close());
    const chunks: Uint8Array[] = [];
    for await (const chunk of (await http.get(url, { limits: LIMITS })).body) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  }

  afterEach(() => vi.unstubAllEnvs());

  test('a server of the configured authority', async () => {
    expect(await fetched(await httpsServer(good), { ca: ours.cert })).toBe('nobody');
  });

  test('a client certificate is shown to it', async () => {
    expect(await fetched(await httpsServer(good), { ca: ours.cert, clientCertificate: agent })).toBe('agent');
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
