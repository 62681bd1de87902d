import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Keyring } from '../../src/format/keyring.ts';
import { openServer } from '../../src/server/open.ts';
import { readSettings } from '../../src/server/settings.ts';
import { hostClock, hostRandom } from '../../src/system/clock.ts';
import { openDatabase } from '../../src/system/database.ts';
import { hostFiles } from '../../src/system/files.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { hostProcess } from '../../src/system/process.ts';
import { hostRanges } from '../../src/system/ranges.ts';
import { bytesOf, refusal } from '../support/documents.ts';
import { keyringOf, testKey, trusted } from '../support/keys.ts';
import { temporaryFolder } from '../support/temp.ts';

const bytes = (keyring: Keyring): Uint8Array => bytesOf(JSON.stringify(keyring));

const neverCalled = async (): Promise<never> => {
  throw new Error('without TLS there is nobody to certify');
};

/** Answers the names of the warnings in the log, and has put them into `warnings` also when it fails. */
async function open(
  kind: Keyring['kind'],
  environment: Record<string, string>,
  folder?: string,
  warnings: string[] = [],
): Promise<readonly string[]> {
  const place = folder ?? (await temporaryFolder());
  const files = hostFiles('');
  const baked = bytes({ ...keyringOf([trusted(await testKey('baked'))]), kind });
  await files.writeAtomic(join(place, 'keyring.json'), bytes(keyringOf([trusted(await testKey('configured'))])));
  const RELEASE_DIR = environment.RELEASE_DIR ?? join(place, 'releases');
  const KEYRING = environment.KEYRING ?? join(place, 'keyring.json');
  const settings = readSettings({ PUBLISH_TOKEN: 't'.repeat(32), RELEASE_DIR, KEYRING }, { isDev: false });
  const log = { info: () => undefined, warn: (event: string) => void warnings.push(event) };
  const clock = hostClock(hostProcess());
  const ports = {
    files,
    ranges: hostRanges(''),
    clock,
    random: hostRandom(),
    log,
    http: undiciHttp(),
    bakedKeyring: baked,
    openStore: openDatabase,
    openAuthority: neverCalled,
  };
  await (await openServer(settings, ports)).close();
  return warnings;
}

test('a folder of releases that is not there is made, and said to be new once', async () => {
  const folder = await temporaryFolder();
  expect(await open('development', {}, folder)).toContain('release_directory_made');
  expect(await open('development', {}, folder)).not.toContain('release_directory_made');
});

test('one that cannot be made is not said to be new', async () => {
  const warnings: string[] = [];
  const opened = open('development', { RELEASE_DIR: '/proc/releases' }, undefined, warnings);
  await expect(opened).rejects.toMatchObject({ code: 'ENOENT' });
  expect(warnings).not.toContain('release_directory_made');
});

test('a release build does not start with a KEYRING that it would ignore', async () => {
  expect(await refusal(() => open('release', {}))).toBe('CONFIG_INVALID');
  await open('release', { KEYRING: '' });
});

test('a build for development takes KEYRING', async () => {
  await open('development', {});
  expect(await refusal(() => open('development', { KEYRING: '/nonexistent/keyring' }))).toBe('CONFIG_INVALID');
});
