import { basename, join } from 'node:path';
import { type Command, Option } from 'commander';
import { QxError } from '../../errors.ts';
import type { SignedManifest } from '../../format/detached.ts';
import { ENVELOPE_NAME, openEnvelope } from '../../format/envelope.ts';
import type { Keyring } from '../../format/keyring.ts';
import { type ArtifactRef, artifactsOf, type Channel, type Manifest } from '../../format/manifest.ts';
import { asVersion } from '../values.ts';
import { readDocument } from './documents.ts';
import { channelOption } from './options.ts';
import type { ReleaseTools } from './tools.ts';

const RESIGN = 'take the file that was signed; if it has to be this one, qx-release manifest and sign again';

/** A release as it lies on the release engineer's disk: an envelope, and the files that it speaks of. */
export interface ReleaseFiles {
  readonly envelope: Uint8Array;
  readonly signed: SignedManifest;
  /** Artifact name -> path. */
  readonly files: ReadonlyMap<string, string>;
}

export const SOURCES_HELP = `folder that holds ${ENVELOPE_NAME} and the files it speaks of; or these files`;

/** One folder, or the envelope and the artifacts one by one. */
export async function readReleaseFiles(
  tools: ReleaseTools,
  sources: readonly string[],
  keyring: Keyring,
): Promise<ReleaseFiles> {
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
      throw new QxError('ARTIFACT_MISSING', `the release speaks of ${ref.artifact}, which is not here`, {
        next: 'put it beside the manifest, under the name that the manifest gives it',
      });
    const path = await tools.followed(named);
    const { sha256, sizeBytes } = await tools.files.hash(path);
    if (sizeBytes !== ref.size_bytes) {
      throw new QxError(
        'SIZE_MISMATCH',
        `${ref.artifact} has ${sizeBytes} bytes, the manifest says ${ref.size_bytes}`,
        { next: RESIGN },
      );
    }
    if (sha256 !== ref.sha256) {
      throw new QxError('HASH_MISMATCH', `${ref.artifact} is not the file that was signed: its sha256 is ${sha256}`, {
        next: RESIGN,
      });
    }
    checked.push({ artifact: ref.artifact, sha256, size_bytes: sizeBytes, path });
  }
  return checked;
}

/** What the caller believes to have at hand; a script that got hold of another folder must not go on with that. */
export interface Expectations {
  readonly channel?: Channel;
  readonly version?: string;
  readonly component?: readonly string[];
}

export const withExpectations = (command: Command): Command =>
  command
    .addOption(channelOption('--channel <name>', 'refuse unless the release is for this channel'))
    .option('--version <version>', 'refuse unless it is this version', asVersion)
    .addOption(new Option('--component <name...>', 'refuse unless it has exactly these components'));

/** @throws QxError USAGE */
export function expectRelease(manifest: Manifest, expected: Expectations, outcome: string): void {
  const { channel, version, component } = expected;
  const refuse = (what: string) => new QxError('USAGE', `this release ${what}; ${outcome}`);
  if (channel !== undefined && channel !== manifest.channel) throw refuse(`is signed for channel ${manifest.channel}`);
  if (version !== undefined && version !== manifest.version) throw refuse(`is version ${manifest.version}`);
  const names = manifest.components.map((c) => c.name).sort();
  if (component !== undefined && [...component].sort().join() !== names.join()) {
    throw refuse(`has the components ${names.join(', ') || '(none)'}`);
  }
}
