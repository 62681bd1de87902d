import { createHash } from 'node:crypto';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Keyring } from '../../src/format/keyring.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import type { Part } from '../../src/ports/serving.ts';
import type { Files } from '../../src/ports.ts';
import { createExclusive } from '../../src/server/exclusive.ts';
import type { Publisher } from '../../src/server/publish.ts';
import { hostRandom } from '../../src/system/clock.ts';
import { hostFiles } from '../../src/system/files.ts';
import { artifactOf, componentOf, keyringOf, signedManifest, type TestKey, testKey, trusted } from './keys.ts';

export const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const quiet = { info: () => undefined, warn: () => undefined };

export const NODE_BYTES = encode('new bytes of qx-node');
export const CONSOLE_BYTES = encode('new bytes of qx-console');
export const IMAGE_BYTES = encode('a whole system image');

/** Two components and an image, as the manifest fields that describe them. */
export const FULL_CONTENT: Partial<Manifest> = {
  update_type: 'full',
  components: [componentOf('qx-node', NODE_BYTES), componentOf('qx-console', CONSOLE_BYTES)],
  full_image: { ...artifactOf('system.squashfs', IMAGE_BYTES), requires_reboot: true },
};

/** Keys of two products, and the keyring of a server that takes releases from both. */
export async function releaseKeys(): Promise<{ os: TestKey; vdc: TestKey; stranger: TestKey; keyring: Keyring }> {
  const [os, vdc, stranger] = await Promise.all([testKey('os-key'), testKey('vdc-key'), testKey('stranger')]);
  const keyring = keyringOf([trusted(os, { products: ['quantix-os'] }), trusted(vdc, { products: ['quantix-vdc'] })]);
  return { os, vdc, stranger, keyring };
}

export async function signedBy(key: TestKey, manifest: Partial<Manifest> = {}): Promise<Uint8Array> {
  return (await signedManifest({ keys: [key], manifest: { ...FULL_CONTENT, ...manifest } })).envelope;
}

export const publisherAt = (directory: string, keyring: Keyring, files: Files = hostFiles('')): Publisher => ({
  store: { files, log: quiet, directory },
  random: hostRandom(),
  clock: { nowMs: () => Date.now() },
  exclusive: createExclusive(),
  keyring,
  signer: null,
  maxArtifactBytes: 1 << 20,
});

export type Sent = readonly (readonly [name: string, bytes: Uint8Array])[];

/** In pieces, as they come from a socket. */
export async function* partsOf(sent: Sent): AsyncGenerator<Part> {
  for (const [name, bytes] of sent) yield { name, bytes: inPieces(bytes) };
}

async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7);
}

/** The seeds' names: components by name, the image as `full_image`. */
export const wholeRelease = (envelope: Uint8Array): Sent => [
  ['manifest', envelope],
  ['qx-node', NODE_BYTES],
  ['qx-console', CONSOLE_BYTES],
  ['full_image', IMAGE_BYTES],
];

/** Path -> kind and hash of everything below a folder: equal before and after means that nothing was changed. */
export async function snapshot(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await readdir(directory, { recursive: true }).catch(() => [])) {
    const path = join(directory, name);
    const isFile = (await lstat(path)).isFile();
    found[name] = isFile
      ? createHash('sha256')
          .update(await readFile(path))
          .digest('hex')
      : 'folder';
  }
  return found;
}
