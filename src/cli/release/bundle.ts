import { basename, join } from 'node:path';
import { QxError } from '../../errors.ts';
import { openEnvelope, type SignedManifest } from '../../format/envelope.ts';
import type { Keyring } from '../../format/keyring.ts';
import { type ArtifactRef, artifactsOf, type Manifest } from '../../format/manifest.ts';
import { readDocument } from './documents.ts';
import type { ReleaseTools } from './tools.ts';

/** A release as it lies on the release engineer's disk: an envelope, and the files that it speaks of. */
export interface Bundle {
  readonly envelope: Uint8Array;
  readonly signed: SignedManifest;
  /** Artifact name -> path. */
  readonly files: ReadonlyMap<string, string>;
}

export const ENVELOPE_NAME = 'manifest.signed.json';

/** One folder, or the envelope and the artifacts one by one. */
export async function readBundle(tools: ReleaseTools, sources: readonly string[], keyring: Keyring): Promise<Bundle> {
  const paths = await expand(tools, sources);
  const envelopes = paths.filter((path) => path.endsWith('.signed.json'));
  const [envelopePath] = envelopes;
  if (envelopePath === undefined || envelopes.length > 1) {
    throw new QxError('USAGE', `${envelopes.length} signed manifests among these files, where one is needed`, {
      next: `qx-release sign manifest.json --key FILE makes ${ENVELOPE_NAME}`,
    });
  }
  const envelope = await readDocument(tools, envelopePath);
  const signed = await openEnvelope(envelope, keyring);
  return { envelope, signed, files: new Map(paths.map((path) => [basename(path), path])) };
}

async function expand(tools: ReleaseTools, sources: readonly string[]): Promise<string[]> {
  const paths: string[] = [];
  for (const source of sources) {
    const path = await tools.followed(source);
    const info = await tools.files.info(path);
    if (info === null) throw new QxError('NOT_FOUND', `there is no file or folder ${source}`);
    if (info.kind === 'directory') paths.push(...(await tools.files.list(path)).map((name) => join(path, name)));
    // The name that was given counts, not that of the file which a link leads to.
    else paths.push(source);
  }
  return paths;
}

export interface CheckedArtifact extends ArtifactRef {
  readonly path: string;
}

/** Hash and size of every artifact. @throws QxError ARTIFACT_MISSING | SIZE_MISMATCH | HASH_MISMATCH */
export async function checkArtifacts(
  tools: ReleaseTools,
  manifest: Manifest,
  files: ReadonlyMap<string, string>,
): Promise<CheckedArtifact[]> {
  const checked: CheckedArtifact[] = [];
  for (const ref of artifactsOf(manifest)) {
    const named = files.get(ref.artifact);
    if (named === undefined)
      throw new QxError('ARTIFACT_MISSING', `the release speaks of ${ref.artifact}, which is not here`);
    const path = await tools.followed(named);
    const { sha256, sizeBytes } = await tools.files.hash(path);
    if (sizeBytes !== ref.size_bytes) {
      throw new QxError('SIZE_MISMATCH', `${ref.artifact} has ${sizeBytes} bytes, the manifest says ${ref.size_bytes}`);
    }
    if (sha256 !== ref.sha256) {
      throw new QxError('HASH_MISMATCH', `${ref.artifact} is not the file that was signed: its sha256 is ${sha256}`);
    }
    checked.push({ artifact: ref.artifact, sha256, size_bytes: sizeBytes, path });
  }
  return checked;
}
