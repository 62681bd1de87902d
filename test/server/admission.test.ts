import { describe, expect, test } from 'vitest';
import type { Caller, Denial } from '../../src/ports/serving.ts';
import { createAdmission } from '../../src/server/admission.ts';

const TOKEN = '0123456789abcdef0123456789abcdef';

function setUp(token: string | null = TOKEN) {
  const time = { nowMs: 0 };
  const logged: unknown[] = [];
  const note = (event: string, fields?: object) => void logged.push(event, fields);
  const clock = {
    nowMs: () => time.nowMs,
    monotonicMs: () => time.nowMs,
    sleep: async () => undefined,
    isSynchronised: async () => true,
  };
  return { time, logged, admit: createAdmission(token, clock, { info: note, warn: note }) };
}

const from = (address: string, authorization?: string, more: Partial<Caller> = {}): Caller => ({
  via: 'tcp',
  address,
  headers: { host: 'localhost:9000', ...(authorization === undefined ? {} : { authorization }) },
  queryNames: [],
  certificate: null,
  ...more,
});
const codeOf = (refusal: Denial | null) => refusal?.refused.code ?? null;

describe('the publish token', () => {
  test.each([`Bearer ${TOKEN}`, `bearer  ${TOKEN}`, TOKEN])('is taken as %s', (sent) => {
    expect(setUp().admit('publisher', from('a', sent))).toBeNull();
  });
  test.each(['Bearer wrong', `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(1)}`, `Basic ${TOKEN}`, 'Bearer', ''])(
    'is not %s',
    (sent) => {
      expect(codeOf(setUp().admit('publisher', from('a', sent)))).toBe('TOKEN_REFUSED');
    },
  );
  test('is asked for with the scheme to use', () => {
    const refusal = setUp().admit('publisher', from('a'));
    expect(codeOf(refusal)).toBe('TOKEN_REQUIRED');
    expect(refusal?.headers).toEqual({ 'www-authenticate': 'Bearer' });
  });
  test('defect 32: is refused in the address, even when it is right', () => {
    const caller = from('a', `Bearer ${TOKEN}`, { queryNames: ['token'] });
    expect(codeOf(setUp().admit('publisher', caller))).toBe('TOKEN_REFUSED');
  });
  test('opens nothing but publishing, and reading needs none', () => {
    const { admit } = setUp();
    expect(admit('open', from('a'))).toBeNull();
    expect(codeOf(admit('host-admin', from('a', `Bearer ${TOKEN}`)))).toBe('FORBIDDEN');
  });
});

describe('T37: guessing', () => {
  test('10 000 guesses of one address: five are looked at, then one per growing wait', () => {
    const { admit, time, logged } = setUp();
    const codes = Array.from({ length: 10_000 }, (_, i) => {
      time.nowMs += 10;
      return codeOf(admit('publisher', from('evil', `Bearer guess-${i}`)));
    });
    const looked = codes.filter((code) => code === 'TOKEN_REFUSED').length;
    expect(looked).toBeGreaterThanOrEqual(5);
    expect(looked).toBeLessThan(15);
    expect(codes.filter((code) => code === 'TOO_MANY_ATTEMPTS')).toHaveLength(10_000 - looked);
    expect(JSON.stringify(logged)).not.toContain('guess-');
    expect(logged.filter((entry) => entry === 'token_refused')).toHaveLength(looked);
  });

  test('slows down who guesses, and nobody who has the right token behind the same address', () => {
    const { admit, time } = setUp();
    for (let i = 0; i < 6; i++) admit('publisher', from('proxy', 'Bearer wrong'));
    const refusal = admit('publisher', from('proxy', 'Bearer wrong'));
    expect(codeOf(refusal)).toBe('TOO_MANY_ATTEMPTS');
    expect(refusal?.headers).toEqual({ 'retry-after': '1' });
    expect(admit('publisher', from('proxy', `Bearer ${TOKEN}`))).toBeNull();
    for (let i = 0; i < 6; i++) admit('publisher', from('proxy', 'Bearer wrong'));
    time.nowMs += 1000;
    expect(codeOf(admit('publisher', from('proxy', 'Bearer wrong')))).toBe('TOKEN_REFUSED');
  });

  test('from many addresses at once: each may guess once, then waits', () => {
    const { admit } = setUp();
    for (let i = 0; i < 101; i++) admit('publisher', from(`bot-${i}`, 'Bearer wrong'));
    expect(codeOf(admit('publisher', from('bot-200', 'Bearer wrong')))).toBe('TOKEN_REFUSED');
    expect(codeOf(admit('publisher', from('bot-200', 'Bearer wrong')))).toBe('TOO_MANY_ATTEMPTS');
    expect(admit('publisher', from('good', `Bearer ${TOKEN}`))).toBeNull();
  });

  test('from more addresses than are remembered: the quietest is forgotten, the busiest still waits', () => {
    const { admit } = setUp();
    for (let i = 0; i < 6000; i++) {
      admit('publisher', from(`bot-${i}`, 'Bearer wrong'));
      if (i % 1000 === 0) for (let j = 0; j < 8; j++) admit('publisher', from('evil', 'Bearer wrong'));
    }
    expect(codeOf(admit('publisher', from('bot-5999', 'Bearer wrong')))).toBe('TOO_MANY_ATTEMPTS');
    expect(codeOf(admit('publisher', from('bot-0', 'Bearer wrong')))).toBe('TOKEN_REFUSED');
  });
});

describe('a development server without a token', () => {
  test.each(['localhost:9000', '127.0.0.1', '[::1]:9000'])('takes a publish at %s', (host) => {
    expect(setUp(null).admit('publisher', from('127.0.0.1', undefined, { headers: { host } }))).toBeNull();
  });
  test.each([
    { host: 'evil.example:9000' },
    { host: '127.0.0.1.evil.example' },
    { host: 'localhost:9000', origin: 'https://evil.example' },
    {},
  ])('takes none from a page of the same machine: %j', (headers) => {
    expect(codeOf(setUp(null).admit('publisher', from('127.0.0.1', undefined, { headers })))).toBe('FORBIDDEN');
  });
});
