import { type ChosenKeyring, chooseKeyring } from '../delivery/keyring.ts';
import { QxError } from '../errors.ts';
import type { Config } from '../format/config.ts';
import type { Keyring } from '../format/keyring.ts';
import type { Files } from '../ports.ts';

export interface HostKeyring {
  readonly keyring: Keyring;
  readonly keyringFrom: ChosenKeyring['from'];
  /** What an operator should know about it; null: these are the keys of a release build, as it should be. */
  readonly keyringNote: string | null;
}

const MAX_BYTES = 1 << 20;

/**
 * A release build on a host that configures another keyring only warns: an agent that did not start could not bring the
 * update that repairs its configuration. @throws QxError KEYRING_INVALID | KEY_UNSAFE
 */
export async function hostKeyring(
  baked: Uint8Array | null,
  { keyring: path }: Pick<Config, 'keyring'>,
  files: Files,
): Promise<HostKeyring> {
  const { keyring, from } = await chooseKeyring(baked, path === null ? null : () => readConfigured(files, path));
  return { keyring, keyringFrom: from, keyringNote: noteOn(keyring.kind, from, path) };
}

async function readConfigured(files: Files, path: string): Promise<Uint8Array> {
  const bytes = await files.read(path, MAX_BYTES);
  if (bytes === null)
    throw new QxError('KEYRING_INVALID', `updates.keyring: there is no file ${path}`, {
      next: 'put it there, or take updates.keyring out of node.yaml',
    });
  return bytes;
}

function noteOn(kind: Keyring['kind'], from: ChosenKeyring['from'], path: string | null): string | null {
  if (from === 'configuration') return `a development build: it trusts the keys in ${path}; not for production`;
  if (kind === 'release') {
    const note = 'updates.keyring is ignored: a release build trusts only the keys that it was built with';
    return path === null ? null : note;
  }
  const note = kind === 'none' ? 'no release can be verified: set updates.keyring' : 'a development keyring';
  return `${note}; not for production`;
}
