import { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type TLSSocket } from 'node:tls';
import { Type } from 'typebox';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createAdmission } from '../../src/agent/admission.ts';
import type { RouteTable } from '../../src/format/route.ts';
import type { Caller } from '../../src/ports/serving.ts';
import { hostFiles } from '../../src/system/files.ts';
import { listenTcp } from '../../src/system/listener.ts';
import { authorities } from '../../src/system/tls.ts';
import { authority, type Certificate, type ClientProfile } from '../support/certificates.ts';
import { refusal } from '../support/documents.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';
import { temporaryFolder } from '../support/temp.ts';

/** T39, T40 as far as a single host goes: who is let in by a client certificate, over real TLS. */

const ROUTES = {
  order: { method: 'POST', path: '/order', who: 'host-admin', summary: '', content: 'json', response: Type.Unknown() },
} as const satisfies RouteTable;

const TOKEN = 'the-token-of-this-host-which-is-long-enough';
const DAY_MS = 86_400_000;
const [ours, theirs] = [await authority('administrators'), await authority('administrators')];
const host = await theirs.issue('127.0.0.1');

async function openHost(clientCa: string | null = ours.cert) {
  const callers: Caller[] = [];
  const admit = createAdmission({
    currentToken: async () => TOKEN,
    isOurName: () => true,
    clock: fakeClock(),
    log: recordedLog(),
  });
  const handlers = {
    order: async ({ caller }: { caller: Caller }) => {
      callers.push(caller);
      return { json: 'taken' };
    },
  };
  const identity = { title: 'test', version: '1.0.0', documentFor: 'host-admin', log: recordedLog() } as const;
  const tls = { cert: Buffer.from(host.cert), key: Buffer.from(host.key) };
  const endpoint = { ...tls, ...(clientCa === null ? {} : { clientCa: Buffer.from(clientCa) }) };
  const service = { ...identity, routes: ROUTES, handlers, admit };
  const { port, close } = await listenTcp(service, { host: '127.0.0.1', port: 0, tls: endpoint });
  onTestFinished(() => close(0));
  return { port, callers };
}

type Version = 'TLSv1.2' | 'TLSv1.3';
interface Connection {
  readonly certificate?: Certificate;
  readonly version?: Version;
  readonly session?: Buffer;
}

/** One connection; `ask` sends an order on it and answers its status and code. */
async function connected(port: number, { certificate, version, session }: Connection = {}) {
  const versions = version === undefined ? {} : { minVersion: version, maxVersion: version };
  const sessions: Buffer[] = [];
  const socket: TLSSocket = await new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, rejectUnauthorized: false, ...certificate, ...versions };
    const opened = connect({ ...options, ...(session === undefined ? {} : { session }) }, () => resolve(opened));
    opened.on('session', (one) => sessions.push(one)).on('error', reject);
  });
  onTestFinished(() => void socket.destroy());
  const ask = async (...headers: readonly string[]): Promise<string> => {
    const answer = new Promise<string>((resolve) => socket.once('data', (data: Buffer) => resolve(data.toString())));
    socket.write(`POST /order HTTP/1.1\r\n${['Host: localhost', ...headers, '', ''].join('\r\n')}`);
    const text = await answer;
    return `${text.split(' ')[1]} ${/"code":"(\w+)"/.exec(text)?.[1] ?? 'taken'}`;
  };
  return { socket, sessions, ask };
}

const from = async (profile: ClientProfile): Promise<Certificate> => ours.client('admin', profile);

test('a certificate of the authority lets in without the token, and the handler sees whose it is', async () => {
  const { port, callers } = await openHost();
  const certificate = await from({});
  expect(await (await connected(port, { certificate })).ask()).toBe('200 taken');
  const { fingerprint256, subject } = new X509Certificate(certificate.cert);
  const seen = { fingerprint256, subject, alternativeNames: 'DNS:admin' };
  expect(callers.map((caller) => caller.certificate)).toEqual([seen]);
});

// Who issued it says who it is for: no name in it decides anything, so one without the newer kind of names is as good.
test('CN only is let in', async () => {
  const { port } = await openHost();
  expect(await (await connected(port, { certificate: await from({ names: false }) })).ask()).toBe('200 taken');
});

const refused: readonly [string, () => Promise<Certificate>][] = [
  ['expired', () => from({ notAfter: new Date(Date.now() - DAY_MS) })],
  [
    'not yet valid',
    () => from({ notBefore: new Date(Date.now() + DAY_MS), notAfter: new Date(Date.now() + 2 * DAY_MS) }),
  ],
  ['of another authority with the same name', () => theirs.client('admin')],
  ['self-signed', async () => ({ cert: theirs.cert, key: theirs.key })],
  ['the authority itself', async () => ({ cert: ours.cert, key: ours.key })],
  ['for servers only', () => from({ usages: ['serverAuth'] })],
  ['for no named purpose', () => from({ usages: ['codeSigning'] })],
  ['of any purpose by saying none', () => ours.issue('127.0.0.1')],
  ['one of an authority below', () => from({ isAuthority: true, usages: ['clientAuth'] })],
];

describe.each(refused)('a client certificate that is %s', (_why, issue) => {
  test('is refused, and the token decides where it is shown as well', async () => {
    const { port, callers } = await openHost();
    const { ask } = await connected(port, { certificate: await issue() });
    expect(await ask()).toBe('401 CLIENT_CERT_REFUSED');
    expect(await ask('Authorization: Bearer wrong')).toBe('401 TOKEN_REFUSED');
    expect(await ask(`Authorization: Bearer ${TOKEN}`)).toBe('200 taken');
    expect(callers.map(({ certificate }) => certificate)).toEqual([null]);
  });
});

test('without any, and where no authority is set, the token is asked for', async () => {
  const { port } = await openHost();
  expect(await (await connected(port)).ask()).toBe('401 TOKEN_REQUIRED');
  const without = await openHost(null);
  expect(await (await connected(without.port, { certificate: await from({}) })).ask()).toBe('401 TOKEN_REQUIRED');
});

test('a header that names a certificate is the words of the caller', async () => {
  const { port } = await openHost();
  const { ask } = await connected(port);
  const { cert } = await from({});
  const der = new X509Certificate(cert).raw.toString('base64');
  expect(await ask('X-SSL-Client-Verify: SUCCESS', 'X-Forwarded-Client-Cert: By=me', `Client-Cert: :${der}:`)).toBe(
    '401 TOKEN_REQUIRED',
  );
});

test('a certificate that runs out while the connection is kept open is refused from then on', async () => {
  const { port } = await openHost();
  const { ask } = await connected(port, { certificate: await from({ notAfter: new Date(Date.now() + 4000) }) });
  expect(await ask()).toBe('200 taken');
  await sleep(4500);
  expect(await ask()).toBe('401 CLIENT_CERT_REFUSED');
});

test.each<Version>(['TLSv1.2', 'TLSv1.3'])(
  '%s: no session is resumed, with or without a certificate',
  async (version) => {
    const { port } = await openHost();
    const admin = await from({});
    const sessionOf = async (certificate?: Certificate): Promise<Buffer | undefined> => {
      const { ask, sessions, socket } = await connected(port, { version, ...(certificate && { certificate }) });
      await ask();
      socket.end();
      return sessions.at(-1) ?? socket.getSession();
    };
    for (const earlier of [undefined, admin]) {
      const session = await sessionOf(earlier);
      if (session === undefined) continue;
      const stranger = await connected(port, { version, session });
      expect(await stranger.ask()).toBe('401 TOKEN_REQUIRED');
      expect(stranger.socket.isSessionReused()).toBe(false);
      const known = await connected(port, { version, session, certificate: admin });
      expect(await known.ask()).toBe('200 taken');
    }
  },
);

test('what is no bundle of authorities is refused at the start, not at the first caller', async () => {
  const folder = await temporaryFolder();
  const files = hostFiles(folder);
  const given = async (pem: string) => {
    await files.writeAtomic('/ca.pem', Buffer.from(pem));
    return refusal(() => authorities(files, 'client_ca', '/ca.pem'));
  };
  expect(await refusal(() => authorities(files, 'client_ca', '/nothing.pem'))).toBe('CONFIG_INVALID');
  expect(await given('')).toBe('CONFIG_INVALID');
  expect(await given((await from({})).cert)).toBe('CONFIG_INVALID');
  expect(await given(`${ours.cert}\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`)).toBe(
    'CONFIG_INVALID',
  );
  expect(await given(`${ours.cert}\n${theirs.cert}\n`)).toBeNull();
});
