import { QxError } from '../errors.ts';
import type { Config } from '../format/config.ts';
import { type Keyring, readKeyring } from '../format/keyring.ts';
import type { Files } from '../ports.ts';

/**
 * Whose signatures count on this host. A release build trusts the keys that it was built with and nothing else: whoever can
 * write a configuration file must not be able to say what is trusted.
 */
export interface ChosenKeyring {
  readonly keyring: Keyring;
  readonly keyringFrom: 'executable' | 'configuration';
  /** What an operator should know about it; null: these are the keys of a release build, as it should be. */
  readonly keyringNote: string | null;
}

const NOBODY: Keyring = { format: 1, epoch: 1, kind: 'none', keys: [] };
const MAX_BYTES = 1 << 20;

/** @throws QxError KEYRING_INVALID | KEY_UNSAFE */
export async function chooseKeyring(
  baked: Uint8Array | null,
  { keyring: path }: Pick<Config, 'keyring'>,
  files: Files,
): Promise<ChosenKeyring> {
  const own = baked === null ? NOBODY : readKeyring(baked);
  const fromExecutable = { keyring: own, keyringFrom: 'executable' } as const;
  if (own.kind === 'release') {
    const note = 'updates.keyring is ignored: a release build trusts only the keys that it was built with';
    return { ...fromExecutable, keyringNote: path === null ? null : note };
  }
  if (path === null) {
    const note = own.kind === 'none' ? 'no release can be verified: set updates.keyring' : 'a development keyring';
    return { ...fromExecutable, keyringNote: `${note}; not for production` };
  }
  const bytes = await files.read(path, MAX_BYTES);
  if (bytes === null) throw new QxError('KEYRING_INVALID', `updates.keyring: there is no file ${path}`);
  const note = `a development build: it trusts the keys in ${path}; not for production`;
  return { keyring: readKeyring(bytes), keyringFrom: 'configuration', keyringNote: note };
}
