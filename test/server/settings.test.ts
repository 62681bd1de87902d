import { describe, expect, test } from 'vitest';
import { type Environment, readSettings } from '../../src/server/settings.ts';

const TOKEN = 'a'.repeat(32);
const production = (environment: Environment) => readSettings(environment, { isDev: false });
const development = (environment: Environment) => readSettings(environment, { isDev: true });

test("without more than a token, the seeds' defaults", () => {
  expect(production({ PUBLISH_TOKEN: TOKEN })).toEqual({
    newAuthority: null,
    isDev: false,
    isPrivate: false,
    releaseDirectory: '/data/releases',
    keyDirectory: '/data/keys',
    host: '0.0.0.0',
    port: 9000,
    token: TOKEN,
    tls: null,
    keyringPath: null,
    signing: null,
    stateUrl: 'sqlite:/data/state/fleet.db',
    socket: { path: '/run/quantix/server.sock', isChosen: false },
    nodeAuthority: { cert: '/data/keys/node-ca.crt', key: '/data/keys/node-ca.key' },
    controlPlaneToken: null,
    controlPlane: null,
    drainTimeoutMs: 3_600_000,
    grantTtlMs: 900_000,
    readNeedsCertificate: false,
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

describe('the fleet', () => {
  test('with --dev is kept beside the releases, its socket too', () => {
    expect(development({ RELEASE_DIR: '/home/a/releases/' })).toMatchObject({
      stateUrl: 'sqlite:/home/a/state/fleet.db',
      socket: { path: '/home/a/server.sock', isChosen: false },
      nodeAuthority: { cert: '/home/a/keys/node-ca.crt', key: '/home/a/keys/node-ca.key' },
    });
  });

  test('can be kept elsewhere', () => {
    const [TLS_CERT, TLS_KEY] = ['/etc/tls.crt', '/etc/tls.key'];
    const CONTROL_PLANE_TOKEN = 'c'.repeat(32);
    const own = {
      STATE_DATABASE_URL: 'postgres://quantix@db/state',
      SERVER_SOCKET: '/srv/qx.sock',
      NODE_CA_CERT: '/etc/ca.crt',
      NODE_CA_KEY: '/etc/ca.key',
      READ_NEEDS_CERTIFICATE: 'true',
    };
    const settings = production({ PUBLISH_TOKEN: TOKEN, TLS_CERT, TLS_KEY, CONTROL_PLANE_TOKEN, ...own });
    expect(settings).toMatchObject({
      stateUrl: own.STATE_DATABASE_URL,
      socket: { path: '/srv/qx.sock', isChosen: true },
      nodeAuthority: { cert: '/etc/ca.crt', key: '/etc/ca.key' },
      controlPlaneToken: CONTROL_PLANE_TOKEN,
      readNeedsCertificate: true,
    });
  });

  test('a control plane is told with one secret and reports with another', () => {
    const [CONTROL_PLANE_TOKEN, CONTROL_PLANE_SECRET] = ['c'.repeat(32), 's'.repeat(32)];
    const both = { PUBLISH_TOKEN: TOKEN, CONTROL_PLANE_TOKEN, CONTROL_PLANE_SECRET };
    const url = { CONTROL_PLANE_URL: 'https://vdc.example.org/api/', DRAIN_TIMEOUT: '2h', GRANT_TTL: '90s' };
    expect(production({ ...both, ...url })).toMatchObject({
      controlPlane: { url: 'https://vdc.example.org/api', secret: CONTROL_PLANE_SECRET },
      drainTimeoutMs: 7_200_000,
      grantTtlMs: 90_000,
    });
    expect(production(both).controlPlane).toBeNull();
  });

  test.each<[string, Environment, string]>([
    ['a control plane without secrets', { CONTROL_PLANE_URL: 'https://vdc' }, 'CONFIG_INVALID'],
    ['a short secret', { CONTROL_PLANE_SECRET: 's'.repeat(31) }, 'INSECURE_TOKEN'],
    ['a control plane at no address', { CONTROL_PLANE_URL: 'vdc.example.org' }, 'CONFIG_INVALID'],
    ['a control plane with a password', { CONTROL_PLANE_URL: 'https://me:pass@vdc' }, 'CONFIG_INVALID'],
    ['a drain without an end', { DRAIN_TIMEOUT: '0' }, 'CONFIG_INVALID'],
    ['a grant of no time', { GRANT_TTL: 'soon' }, 'CONFIG_INVALID'],
    ['a key among what is served', { NODE_CA_KEY: '/data/releases/node-ca.key' }, 'CONFIG_INVALID'],
    ['one that a detour leads there', { NODE_CA_KEY: '/data/x/../releases/node-ca.key' }, 'CONFIG_INVALID'],
    ['a certificate among what is served', { NODE_CA_CERT: '/data/releases/ca.crt' }, 'CONFIG_INVALID'],
    ['state among what is served', { STATE_DATABASE_URL: 'sqlite:/data/releases/fleet.db' }, 'CONFIG_INVALID'],
    ['state at a relative path', { STATE_DATABASE_URL: 'sqlite:fleet.db' }, 'CONFIG_INVALID'],
    ['a relative socket', { SERVER_SOCKET: 'server.sock' }, 'CONFIG_INVALID'],
    ['a short token of the control plane', { CONTROL_PLANE_TOKEN: 'c'.repeat(31) }, 'INSECURE_TOKEN'],
    ['a switch that is neither on nor off', { READ_NEEDS_CERTIFICATE: 'yes' }, 'CONFIG_INVALID'],
    ['readers who cannot prove anything', { READ_NEEDS_CERTIFICATE: 'true' }, 'CONFIG_INVALID'],
  ])('is refused: %s', (_what, environment, code) => {
    expect(() => production({ PUBLISH_TOKEN: TOKEN, ...environment })).toThrow(expect.objectContaining({ code }));
  });
});
