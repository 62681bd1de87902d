import { createHash } from 'node:crypto';
import { readBundle } from '../../delivery/offline.ts';
import { QxError } from '../../errors.ts';
import type { SignedManifest } from '../../format/detached.ts';
import type { Keyring } from '../../format/keyring.ts';
import { type ArtifactRef, artifactsOf } from '../../format/manifest.ts';
import type { ReleaseTools } from './tools.ts';

/** Offline bundles as the release tool takes them. */

export const BUNDLE_SUFFIX = '.qxb';

/** Every byte of it has been checked. */
export interface CarriedRelease {
  readonly envelope: Uint8Array;
  readonly signed: SignedManifest;
  readonly artifacts: readonly CarriedArtifact[];
}

export interface CarriedArtifact extends ArtifactRef {
  /** As long as the bundle is open. */
  read(): AsyncIterable<Uint8Array>;
}

/** @throws QxError NOT_FOUND | BUNDLE_INVALID | HASH_MISMATCH, or as `readBundle` does */
export async function withBundle<T>(
  tools: ReleaseTools,
  path: string,
  keyring: Keyring,
  use: (release: CarriedRelease) => Promise<T>,
): Promise<T> {
  const bundle = await tools.bundles.open(await tools.followed(path));
  try {
    const signed = await readBundle(bundle, keyring);
    const artifacts = artifactsOf(signed.manifest).map(({ artifact, sha256, size_bytes }) => ({
      ...{ artifact, sha256, size_bytes },
      read: () => bundle.read(artifact, 0),
    }));
    for (const artifact of artifacts) await checkHash(artifact);
    return await use({ envelope: signed.envelope, signed, artifacts });
  } finally {
    await bundle.close();
  }
}

async function checkHash({ artifact, sha256, read }: CarriedArtifact): Promise<void> {
  const hash = createHash('sha256');
  for await (const piece of read()) hash.update(piece);
  const found = hash.digest('hex');
  if (found === sha256) return;
  throw new QxError('HASH_MISMATCH', `${artifact} is not the file that was signed: its sha256 is ${found}`);
}
