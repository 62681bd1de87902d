import { expect, test } from 'vitest';
import { hostKeyring } from '../../src/agent/keyring.ts';
import type { Keyring } from '../../src/format/keyring.ts';
import { hostFiles } from '../../src/system/files.ts';
import { bytesOf, refusal } from '../support/documents.ts';
import { keyringOf, testKey, trusted } from '../support/keys.ts';
import { temporaryFolder } from '../support/temp.ts';

const PATH = { keyring: '/etc/keyring.json' };
const bytes = (keyring: Keyring): Uint8Array => bytesOf(JSON.stringify(keyring));

async function keyrings() {
  const files = hostFiles(await temporaryFolder());
  const baked = keyringOf([trusted(await testKey('baked'))]);
  const configured = keyringOf([trusted(await testKey('configured'))]);
  await files.makeDirectory('/etc');
  await files.writeAtomic(PATH.keyring, bytes(configured));
  return { files, baked, configured };
}

test('a release build trusts its own keys, whatever its configuration says', async () => {
  const { files, baked } = await keyrings();
  const own: Keyring = { ...baked, kind: 'release' };
  const chosen = await hostKeyring(bytes(own), PATH, files);
  expect(chosen).toMatchObject({ keyring: own, keyringFrom: 'executable' });
  expect(chosen.keyringNote).toContain('ignored');
  expect((await hostKeyring(bytes(own), { keyring: null }, files)).keyringNote).toBeNull();
});

test('a build for development may be told whom to trust, and says so', async () => {
  const { files, baked, configured } = await keyrings();
  for (const own of [null, bytes({ ...baked, kind: 'none', keys: [] }), bytes(baked)]) {
    const chosen = await hostKeyring(own, PATH, files);
    expect(chosen).toMatchObject({ keyring: configured, keyringFrom: 'configuration' });
    expect(chosen.keyringNote).toContain('not for production');
  }
});

test('without any it trusts nobody', async () => {
  const { files } = await keyrings();
  const chosen = await hostKeyring(null, { keyring: null }, files);
  expect(chosen.keyring).toMatchObject({ kind: 'none', keys: [] });
  expect(chosen.keyringNote).toContain('updates.keyring');
});

test('a keyring that is named and not there is an error, not a reason to trust less', async () => {
  const { files } = await keyrings();
  expect(await refusal(() => hostKeyring(null, { keyring: '/etc/missing.json' }, files))).toBe('KEYRING_INVALID');
});
