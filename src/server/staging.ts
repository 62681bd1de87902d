import { createHash } from 'node:crypto';
import { QxError } from '../errors.ts';
import { type ArtifactRef, artifactsOf, type Manifest } from '../format/manifest.ts';
import type { Files } from '../ports.ts';

/** Bytes that arrived and are on disk, in a folder where nothing is served from, waiting to be judged. */
export interface Staged {
  readonly partName: string;
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** Writes a part to disk while hashing it. @throws QxError SIZE_MISMATCH as soon as it is longer than it may be */
export async function stage(
  files: Files,
  path: string,
  part: { readonly name: string; readonly bytes: AsyncIterable<Uint8Array> },
  maxBytes: number,
): Promise<Staged> {
  const hash = createHash('sha256');
  const file = await files.openPart(path, 0);
  let sizeBytes = 0;
  try {
    for await (const piece of part.bytes) {
      sizeBytes += piece.length;
      if (sizeBytes > maxBytes) throw new QxError('SIZE_MISMATCH', `${part.name} is longer than ${maxBytes} bytes`);
      hash.update(piece);
      await file.append(piece);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  // Other programs may serve this folder too; a release holds nothing secret.
  await files.setMode(path, 0o644);
  return { partName: part.name, path, sha256: hash.digest('hex'), sizeBytes };
}

/** @throws QxError SIZE_MISMATCH */
export async function readWhole(name: string, bytes: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of bytes) {
    sizeBytes += piece.length;
    if (sizeBytes > maxBytes) throw new QxError('SIZE_MISMATCH', `${name} is longer than ${maxBytes} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/**
 * What the manifest says of a part: by file name, by the component's name, or `full_image`. A file name comes first, since
 * those are unique. @throws QxError ARTIFACT_UNLISTED
 */
export function listedAs(manifest: Manifest, partName: string): ArtifactRef {
  const listed =
    artifactsOf(manifest).find((ref) => ref.artifact === partName) ??
    manifest.components.find((component) => component.name === partName) ??
    (partName === 'full_image' ? manifest.full_image : undefined);
  if (listed !== undefined) return listed;
  throw new QxError(
    'ARTIFACT_UNLISTED',
    `the manifest lists no artifact or component called ${JSON.stringify(partName)}`,
    {
      next: 'name each part by its component or by its file name, and list it in the signed manifest',
    },
  );
}

/** Every staged file under the name that the manifest gives it. @throws QxError when one is not what the manifest says */
export function judge(manifest: Manifest, staged: readonly Staged[]): Map<string, Staged> {
  const judged = new Map<string, Staged>();
  for (const file of staged) {
    const { artifact, sha256, size_bytes } = listedAs(manifest, file.partName);
    if (judged.has(artifact)) throw new QxError('BAD_REQUEST', `${artifact} was sent twice`);
    if (file.sizeBytes !== size_bytes) {
      throw new QxError('SIZE_MISMATCH', `${artifact} has ${file.sizeBytes} bytes, the manifest says ${size_bytes}`);
    }
    if (file.sha256 !== sha256) {
      throw new QxError('HASH_MISMATCH', `${artifact} has SHA-256 ${file.sha256}, the manifest says ${sha256}`);
    }
    judged.set(artifact, file);
  }
  return judged;
}
