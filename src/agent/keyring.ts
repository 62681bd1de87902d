import { QxError } from '../errors.ts';
import type { Config } from '../format/config.ts';
import { type Keyring, readKeyring } from '../format/keyring.ts';
import type { Files, Log } from '../ports.ts';

/**
 * Whose signatures count on this host. A release build trusts the keys that it was built with and nothing else: whoever can
 * write a configuration file must not be able to say what is trusted.
 */
export interface ChosenKeyring {
  readonly keyring: Keyring;
  readonly keyringFrom: 'executable' | 'configuration';
}

const NOBODY: Keyring = { format: 1, epoch: 1, kind: 'none', keys: [] };
const MAX_BYTES = 1 << 20;

/** @throws QxError KEYRING_INVALID | KEY_UNSAFE */
export async function chooseKeyring(
  baked: Uint8Array | null,
  { keyring: path }: Pick<Config, 'keyring'>,
  { files, log }: { files: Files; log: Log },
): Promise<ChosenKeyring> {
  const own = baked === null ? NOBODY : readKeyring(baked);
  if (own.kind === 'release') {
    if (path !== null) log.warn('keyring_ignored', { path, detail: 'a release build trusts only its own keys' });
    return { keyring: own, keyringFrom: 'executable' };
  }
  if (path === null) {
    const detail = own.kind === 'none' ? 'no release can be verified: set updates.keyring' : 'not for production';
    log.warn('keyring_not_for_production', { kind: own.kind, detail });
    return { keyring: own, keyringFrom: 'executable' };
  }
  const bytes = await files.read(path, MAX_BYTES);
  if (bytes === null) throw new QxError('KEYRING_INVALID', `updates.keyring: there is no file ${path}`);
  log.warn('keyring_not_for_production', { path, detail: 'a development build trusts the keys in its configuration' });
  return { keyring: readKeyring(bytes), keyringFrom: 'configuration' };
}
