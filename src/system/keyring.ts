import { getRawAsset, isSea } from 'node:sea';

/** The keyring that this executable was built with, or null when it runs from source, which trusts nobody by itself. */
export function bakedKeyring(): Uint8Array | null {
  return isSea() ? new Uint8Array(getRawAsset('keyring.json')) : null;
}
