import { type Keyring, readKeyring } from '../format/keyring.ts';

/**
 * Whose signatures count, on a host and on the server. A release build trusts the keys that it was built with and nothing
 * else: whoever can write a configuration must not be able to say what is trusted. Whether that deserves a warning or a
 * refusal to start is for the program to say.
 */
export interface ChosenKeyring {
  readonly keyring: Keyring;
  readonly from: 'executable' | 'configuration';
}

const NOBODY: Keyring = { format: 1, epoch: 1, kind: 'none', keys: [] };

/**
 * `baked`: what this executable was built with, null when it runs from source. `configured` reads the keyring that the
 * configuration names, if it names one; of a release build it is never called. @throws QxError KEYRING_INVALID | KEY_UNSAFE
 */
export async function chooseKeyring(
  baked: Uint8Array | null,
  configured: (() => Promise<Uint8Array>) | null,
): Promise<ChosenKeyring> {
  const own = baked === null ? NOBODY : readKeyring(baked);
  if (configured === null || own.kind === 'release') return { keyring: own, from: 'executable' };
  return { keyring: readKeyring(await configured()), from: 'configuration' };
}
