import { describe, expect, test } from 'vitest';
import { type Environment, readSettings } from '../../src/server/settings.ts';

const TOKEN = 'a'.repeat(32);
const production = (environment: Environment) => readSettings(environment, { isDev: false });
const development = (environment: Environment) => readSettings(environment, { isDev: true });

test("without more than a token, the seeds' defaults", () => {
  expect(production({ PUBLISH_TOKEN: TOKEN })).toEqual({
    isDev: false,
    releaseDirectory: '/data/releases',
    keyDirectory: '/data/keys',
    host: '0.0.0.0',
    port: 9000,
    token: TOKEN,
    tls: null,
    keyringPath: null,
    signing: null,
  });
});

describe('T36, defect 32: no start with a token that is unset, known or short', () => {
  test.each([undefined, '', 'dev-token', 'changeme', 'change-me-in-production', 'a'.repeat(31)])('%s', (token) => {
    expect(() => production({ PUBLISH_TOKEN: token })).toThrow(expect.objectContaining({ code: 'INSECURE_TOKEN' }));
  });
  test('NODE_ENV does not change that', () => {
    expect(() => production({ NODE_ENV: 'development' })).toThrow(expect.objectContaining({ code: 'INSECURE_TOKEN' }));
  });
  test('--dev does not either, off loopback', () => {
    for (const LISTEN_ADDR of ['0.0.0.0:9000', '192.0.2.1:9000', '[::]:9000', ':9000']) {
      expect(() => development({ LISTEN_ADDR })).toThrow(expect.objectContaining({ code: 'INSECURE_TOKEN' }));
    }
  });
  test('--dev on loopback needs none, and demands the one that is set', () => {
    expect(development({})).toMatchObject({ token: null, host: '127.0.0.1', port: 9000 });
    expect(development({ LISTEN_ADDR: '[::1]:0' })).toMatchObject({ token: null, host: '::1', port: 0 });
    expect(development({ PUBLISH_TOKEN: 'dev-token' }).token).toBe('dev-token');
  });
  test('the refusal does not repeat the token', () => {
    expect(() => production({ PUBLISH_TOKEN: 'hunter2' })).toThrow(/^(?!.*hunter2).*does not start$/);
  });
});

test.each([
  [{ LISTEN_ADDR: 'nonsense' }],
  [{ LISTEN_ADDR: '0.0.0.0:65536' }],
  [{ RELEASE_DIR: 'releases' }],
  [{ RELEASE_DIR: '/srv/releases', KEY_DIR: '/srv/releases/keys' }],
  [{ KEY_DIR: '/data/releases' }],
  [{ TLS_CERT: '/cert.pem' }],
])('%j is refused', (environment) => {
  const code = 'CONFIG_INVALID';
  expect(() => production({ PUBLISH_TOKEN: TOKEN, ...environment })).toThrow(expect.objectContaining({ code }));
});

test('defect 36: keys are kept beside the served folder, never in it', () => {
  const settings = production({ PUBLISH_TOKEN: TOKEN, RELEASE_DIR: '/srv/releases/' });
  expect(settings).toMatchObject({ releaseDirectory: '/srv/releases', keyDirectory: '/srv/keys' });
});
