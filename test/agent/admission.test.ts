import { expect, test } from 'vitest';
import { createAdmission } from '../../src/agent/admission.ts';
import { auditRefusals } from '../../src/agent/audit-access.ts';
import { QxError } from '../../src/errors.ts';
import type { Who } from '../../src/format/route.ts';
import type { AuditRecord } from '../../src/ports/audit.ts';
import type { Caller } from '../../src/ports/serving.ts';
import { fakeClock, recordedLog } from '../support/fakes.ts';

const TOKEN = 'a-token-that-is-long-enough-for-the-agent';
const ADMIN = { fingerprint256: 'AA:BB', subject: 'CN=admin', alternativeNames: null };

function setUp(currentToken: () => Promise<string | null> = async () => TOKEN) {
  const time = { nowMs: 0 };
  const clock = {
    nowMs: () => 0,
    monotonicMs: () => time.nowMs,
    sleep: async () => undefined,
    isSynchronised: async () => true,
  };
  const log = recordedLog();
  const admit = createAdmission({ currentToken, isOurName: (name) => name === 'localhost', clock, log });
  const codeOf = async (caller: Partial<Caller>, who: Who = 'host-admin') => {
    const { headers, ...rest } = caller;
    const from = { via: 'tcp', address: '192.0.2.1', queryNames: [], certificate: null, ...rest } as const;
    return (await admit(who, { ...from, headers: { host: 'localhost', ...headers } }))?.refused.code ?? null;
  };
  return { time, log, codeOf };
}

const shows = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

test('a verified certificate or the right token lets in, whatever was guessed from the same address', async () => {
  const { codeOf } = setUp();
  for (let i = 0; i < 6; i++) expect(await codeOf(shows(`wrong-${i}`))).toBe('TOKEN_REFUSED');
  expect(await codeOf(shows('wrong'))).toBe('TOO_MANY_ATTEMPTS');
  expect(await codeOf({ certificate: ADMIN })).toBeNull();
  expect(await codeOf(shows('wrong'))).toBe('TOO_MANY_ATTEMPTS');
  expect(await codeOf(shows(TOKEN))).toBeNull();
});

test('a certificate opens neither what is for the Unix socket alone nor what a host does not do', async () => {
  const { codeOf } = setUp();
  expect(await codeOf({ certificate: ADMIN }, 'local')).toBe('FORBIDDEN');
  expect(await codeOf({ certificate: ADMIN }, 'publisher')).toBe('FORBIDDEN');
});

test('T35 a foreign page gets nowhere with the certificate that the browser shows by itself', async () => {
  const { codeOf } = setUp();
  const page = (headers: Caller['headers']) => codeOf({ certificate: ADMIN, headers });
  expect(await page({ origin: 'https://evil.example' })).toBe('FORBIDDEN');
  expect(await page({ origin: 'null' })).toBe('FORBIDDEN');
  expect(await page({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).toBe('FORBIDDEN');
  expect(await page({ host: 'evil.example' })).toBe('FORBIDDEN');
  expect(await page({ origin: 'https://localhost' })).toBeNull();
});

test('a certificate that does not hold is refused by name, and the token decides where one is shown as well', async () => {
  const { codeOf } = setUp();
  const expired = { certificateFault: 'CERT_HAS_EXPIRED' };
  expect(await codeOf(expired)).toBe('CLIENT_CERT_REFUSED');
  expect(await codeOf({ ...expired, ...shows(TOKEN) })).toBeNull();
  expect(await codeOf({ ...expired, ...shows('wrong') })).toBe('TOKEN_REFUSED');
  expect(await codeOf(expired, 'open')).toBeNull();
});

test('T37 of a hundred guesses that are sent at once, no more are looked at than of those that come one by one', async () => {
  const { codeOf, log } = setUp();
  const guesses = await Promise.all(Array.from({ length: 100 }, (_, i) => codeOf(shows(`guess-${i}`))));
  expect(guesses.filter((code) => code === 'TOKEN_REFUSED')).toHaveLength(6);
  expect(guesses.filter((code) => code === 'TOO_MANY_ATTEMPTS')).toHaveLength(94);
  expect(log.lines).toHaveLength(6);
});

test('T37 of ten thousand refusals in a minute sixty are kept one by one, and then how many more there were', () => {
  const time = { nowMs: 0 };
  const kept: AuditRecord[] = [];
  const clock = { ...fakeClock(), monotonicMs: () => time.nowMs };
  const note = auditRefusals({ record: async (event) => void kept.push(event) }, clock);
  const refused = {
    error: new QxError('TOKEN_REFUSED', "this is not the host's API token"),
    caller: { via: 'tcp', address: '192.0.2.1' },
    route: 'apply',
    isAnswer: false,
  } as const;
  for (let i = 0; i < 10_000; i++) note(refused);
  expect(kept).toHaveLength(60);
  expect(kept[0]).toMatchObject({ event: 'request_refused', code: 'TOKEN_REFUSED', actor: '192.0.2.1' });
  time.nowMs = 60_000;
  note(refused);
  expect(kept.slice(60)).toMatchObject([{ fields: { dropped: 9940 } }, { code: 'TOKEN_REFUSED' }]);
});

test('without a token that can be relied on, none is the right one', async () => {
  const { codeOf } = setUp(async () => null);
  expect(await codeOf(shows(''))).toBe('TOKEN_REFUSED');
  expect(await codeOf(shows('null'))).toBe('TOKEN_REFUSED');
});
