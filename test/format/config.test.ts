import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { QxError } from '../../src/errors.ts';
import { durationMs, readConfig, SETTINGS } from '../../src/format/config.ts';

const read = (...texts: string[]) => readConfig(texts.map((text, i) => ({ path: `/etc/${i}.yaml`, text })));
const refusal = (text: string): string => {
  try {
    read(text);
  } catch (error) {
    expect(error).toBeInstanceOf(QxError);
    expect((error as QxError).code).toBe('CONFIG_INVALID');
    return (error as QxError).message;
  }
  throw new Error(`accepted: ${text}`);
};

describe('readConfig', () => {
  test('without a file the defaults of the documents hold', () => {
    expect(read()).toMatchObject({
      enabled: true,
      channel: 'dev',
      checkIntervalMs: 3_600_000,
      autoCheck: true,
      autoApply: false,
      autoReboot: false,
      stagingDirectory: '/data/updates/staging',
      backupDirectory: '/data/updates/backup',
      maxBackups: 3,
      listen: { host: '0.0.0.0', port: 8443 },
    });
  });

  test('reads the example of the documents', () => {
    const text = `updates:
  enabled: true
  server_url: "http://192.168.0.95:9000"
  channel: "dev"
  check_interval: "1h"
  auto_apply: false
  auto_reboot: false
`;
    expect(read(text)).toMatchObject({ serverUrl: 'http://192.168.0.95:9000', checkIntervalMs: 3_600_000 });
  });

  test('a later file wins key by key', () => {
    const config = read('updates: {channel: beta, auto_apply: true}', 'updates: {channel: stable}');
    expect(config).toMatchObject({ channel: 'stable', autoApply: true });
  });

  test('an empty file says nothing', () => {
    expect(read('', '# only a comment\n')).toEqual(read());
  });

  test('storage on a volume needs its path', () => {
    expect(read('updates: {storage_location: volume, volume_path: /mnt/big/}')).toMatchObject({
      stagingDirectory: '/mnt/big/staging',
      backupDirectory: '/mnt/big/backup',
    });
    expect(refusal('updates: {storage_location: volume}')).toContain('volume_path');
  });

  test.each([
    ['a misspelt key, by its path', 'updates: {auto_rebot: true}', 'auto_rebot'],
    ['an unknown section', 'update: {}', 'update'],
    ['an unknown key further down', 'updates: {slots: {A: /a, B: /b, C: /c}}', 'C'],
    ['a key that appears twice', 'updates:\n  channel: dev\n  channel: stable\n', 'unique'],
    ['an unknown channel', 'updates: {channel: nightly}', 'channel'],
    ['a duration without unit', 'updates: {check_interval: "60"}', 'check_interval'],
    ['a duration as a number', 'updates: {check_interval: 60}', 'check_interval'],
    ['a server that is no URL', 'updates: {server_url: "file:///etc"}', 'server_url'],
    ['a server with user and password', 'updates: {server_url: "http://a:b@host"}', 'server_url'],
    ['a relative path', 'updates: {staging_dir: staging}', 'staging_dir'],
    ['a port that does not exist', 'updates: {listen: "0.0.0.0:70000"}', '70000'],
    [
      'a time zone that does not exist',
      'updates: {maintenance_windows: [{start: "02:00", end: "03:00", timezone: Mars/A}]}',
      'Mars/A',
    ],
    ['a certificate without key', 'updates: {tls_cert: /a}', 'tls_key'],
    ['an alias', 'updates: &u {channel: dev}\nother: *u', 'lias'],
    ['text that is no YAML', 'updates: [', 'yaml'],
    ['a list at the top', '- 1', '/etc/0.yaml'],
    ['an ordered map, which would say nothing', 'updates: !!omap [auto_apply: true]', 'omap'],
    ['a set, which would say nothing', 'updates: !!set {auto_apply}', 'set'],
    ['a key that is no text', '? {a: 1}\n: 2', 'keys must be strings'],
    [
      'more misspelt keys than are told',
      `updates: {${'abcdefghi'.replaceAll(/./g, '$&: 1, ')}}`,
      'updates/a is not a known',
    ],
  ])('refuses %s', (_, text, named) => {
    expect(refusal(text)).toContain(named);
  });

  test('the shipped node.yaml names every key, and its commented ones stand at their defaults', async () => {
    const shipped = await readFile('openrc/node.yaml', 'utf8');
    const all = shipped.replace(/^ {2}#(?=\w)/gm, '  ');
    const { origins, serverUrl, tls, serverCa, clientCa, keyring, fleetlock, ...rest } = read(all);
    const {
      origins: _origins,
      serverUrl: _url,
      tls: _tls,
      serverCa: _sca,
      clientCa: _ca,
      keyring: _keyring,
      fleetlock: none,
      ...defaults
    } = read();
    expect(rest).toEqual(defaults);
    expect([serverUrl, keyring]).toEqual(['https://updates.example.org:9000', '/etc/limiquantix/keyring.json']);
    expect([...origins.keys()].sort()).toEqual(SETTINGS.toSorted());
    // A host that nobody told of a server asks none that somebody else may have by then.
    expect(read(shipped).serverUrl).toBeNull();
    expect(none).toBeNull();
    expect(fleetlock).toEqual({
      url: 'https://locks.example.org',
      group: 'default',
      login: '/quantix/limiquantix/fleetlock-login',
    });
    expect(tls).toEqual({ cert: '/etc/limiquantix/tls.crt', key: '/etc/limiquantix/tls.key' });
    expect([serverCa, clientCa]).toEqual(['/etc/limiquantix/server-ca.pem', '/etc/limiquantix/client-ca.pem']);
    for (const key of SETTINGS) expect(all, key).toMatch(new RegExp(`^ {2}${key}:`, 'm'));
  });

  test('whatever the bytes are, the answer is a configuration or CONFIG_INVALID', () => {
    const noise = fc.oneof(
      fc.string(),
      fc.json(),
      fc.string().map((s) => `updates:\n  ${s}`),
    );
    fc.assert(
      fc.property(noise, (text) => {
        try {
          read(text);
        } catch (error) {
          expect((error as QxError).code).toBe('CONFIG_INVALID');
        }
      }),
    );
  });
});

test.each([
  ['90s', 90_000],
  ['15m', 900_000],
  ['1h', 3_600_000],
  ['7d', 604_800_000],
])('%s is %i ms', (text, ms) => {
  expect(durationMs(text)).toBe(ms);
});
