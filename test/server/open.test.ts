import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Keyring } from '../../src/format/keyring.ts';
import { openServer } from '../../src/server/open.ts';
import { readSettings } from '../../src/server/settings.ts';
import { hostClock, hostRandom } from '../../src/system/clock.ts';
import { hostFiles } from '../../src/system/files.ts';
import { hostProcess } from '../../src/system/process.ts';
import { hostRanges } from '../../src/system/ranges.ts';
import { bytesOf, refusal } from '../support/documents.ts';
import { keyringOf, testKey, trusted } from '../support/keys.ts';
import { temporaryFolder } from '../support/temp.ts';

const bytes = (keyring: Keyring): Uint8Array => bytesOf(JSON.stringify(keyring));

async function open(kind: Keyring['kind'], environment: Record<string, string>): Promise<void> {
  const folder = await temporaryFolder();
  const files = hostFiles('');
  const baked = bytes({ ...keyringOf([trusted(await testKey('baked'))]), kind });
  await files.writeAtomic(join(folder, 'keyring.json'), bytes(keyringOf([trusted(await testKey('configured'))])));
  const RELEASE_DIR = join(folder, 'releases');
  const KEYRING = environment.KEYRING ?? join(folder, 'keyring.json');
  const settings = readSettings({ PUBLISH_TOKEN: 't'.repeat(32), RELEASE_DIR, KEYRING }, { isDev: false });
  const log = { info: () => undefined, warn: () => undefined };
  const clock = hostClock(hostProcess());
  const ports = { files, ranges: hostRanges(''), clock, random: hostRandom(), log, bakedKeyring: baked };
  await (await openServer(settings, ports)).close();
}

test('a release build does not start with a KEYRING that it would ignore', async () => {
  expect(await refusal(() => open('release', {}))).toBe('CONFIG_INVALID');
  await open('release', { KEYRING: '' });
});

test('a build for development takes KEYRING', async () => {
  await open('development', {});
  expect(await refusal(() => open('development', { KEYRING: '/nonexistent/keyring' }))).toBe('CONFIG_INVALID');
});
