import type { RetryPolicy } from '../core/retry.ts';
import { QxError } from '../errors.ts';
import { type ArtifactRef, artifactsOf, type Manifest } from '../format/manifest.ts';
import type { Clock, Files, Http, Log, Random } from '../ports.ts';
import { type Attempt, askEach, done, later, never } from './attempts.ts';
import { type Part, transfer, usableBytes } from './download.ts';
import { artifactUrl, type Source, WAIT_LIMITS, type WaitLimits } from './source.ts';

/**
 * The artifacts of a release, fetched and verified into the staging directory: `STAGING/<artifact>` is put there only when its
 * bytes are those that were signed, and is hashed again before it is used, since a power cut may have taken some of them.
 * `STAGING/<sha256>.part` is what a broken download left. Nothing here is wiped at a start: a host on a poor line gets its
 * image over many restarts.
 */

export interface FetchPorts {
  readonly http: Http;
  readonly files: Files;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface FetchProgress {
  readonly artifact: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface FetchRequest {
  readonly source: Source;
  readonly manifest: Manifest;
  /** Those of the manifest that are needed. */
  readonly artifacts: readonly ArtifactRef[];
  readonly stagingDirectory: string;
  /** Room that must be left on that disk once everything is there, for what is unpacked from it. */
  readonly reserveBytes?: number;
  readonly onProgress?: (progress: FetchProgress) => void;
  readonly signal?: AbortSignal;
  readonly limits?: WaitLimits;
  readonly policy?: RetryPolicy;
}

const FETCH_POLICY: RetryPolicy = {
  maxAttempts: 10,
  firstDelayMs: 1_000,
  maxDelayMs: 60_000,
  maxRetryAfterMs: 600_000,
};
/** For the file system's own use, and for the journal of this very update. */
const SPARE_BYTES = 16 << 20;

export const stagedPath = (stagingDirectory: string, { artifact }: Pick<ArtifactRef, 'artifact'>): string =>
  `${stagingDirectory}/${artifact}`;

const partOf = (directory: string, artifact: ArtifactRef): Part => ({
  artifact,
  partPath: `${directory}/${artifact.sha256}.part`,
  etagPath: `${directory}/${artifact.sha256}.etag`,
});

/** @throws QxError NO_SPACE before the first byte, HASH_MISMATCH, or what kept the last server from answering */
export async function fetchArtifacts(ports: FetchPorts, request: FetchRequest): Promise<void> {
  await openStaging(ports.files, request.stagingDirectory);
  await removeOldParts(ports.files, request);
  const missing: ArtifactRef[] = [];
  for (const artifact of request.artifacts) {
    if (!(await isStaged(ports.files, request, artifact))) missing.push(artifact);
  }
  await checkSpace(ports.files, request, missing);
  for (const artifact of missing) await fetchOne(ports, request, artifact);
}

/** Nobody else may write here: whoever could rename a file in this folder would choose what is installed. */
async function openStaging(files: Files, directory: string): Promise<void> {
  await files.makeDirectory(directory, 0o700);
  const info = await files.info(directory);
  // Looked at and not mended: an operator may have named /tmp, and a symlink may lead anywhere.
  if (info?.kind === 'directory' && (info.mode & 0o022) === 0) return;
  throw new QxError('CONFIG_INVALID', `${directory} is not a directory that only its owner writes to`, {
    next: `chmod 0700 ${directory}, or choose another updates.staging_dir`,
  });
}

const PART_NAME = /^[a-f0-9]{64}\.(?:part|etag)(?:\.new)?$/;

/** Halves of other releases would otherwise stay for ever, one image after another. Only what is surely ours is removed. */
async function removeOldParts(files: Files, { stagingDirectory, manifest }: FetchRequest): Promise<void> {
  const wanted = new Set(artifactsOf(manifest).map(({ sha256 }) => sha256));
  for (const name of await files.list(stagingDirectory)) {
    if (PART_NAME.test(name) && !wanted.has(name.slice(0, 64))) await files.remove(`${stagingDirectory}/${name}`);
  }
}

/** A file of the right name may be of the release before, or half of something: its bytes are asked, not its name. */
async function isStaged(
  files: Files,
  { stagingDirectory, signal }: FetchRequest,
  artifact: ArtifactRef,
): Promise<boolean> {
  const path = stagedPath(stagingDirectory, artifact);
  const info = await files.info(path);
  if (info === null) return false;
  if (info.kind === 'file' && info.sizeBytes === artifact.size_bytes) {
    const { sha256 } = await files.hash(path, signal);
    if (sha256 === artifact.sha256) return true;
  }
  await files.remove(path);
  return false;
}

async function checkSpace(files: Files, request: FetchRequest, missing: readonly ArtifactRef[]): Promise<void> {
  const { stagingDirectory, reserveBytes = 0 } = request;
  let neededBytes = SPARE_BYTES + reserveBytes;
  for (const artifact of missing) {
    neededBytes += artifact.size_bytes - (await usableBytes(files, partOf(stagingDirectory, artifact)));
  }
  const freeBytes = await files.freeBytes(stagingDirectory);
  if (freeBytes >= neededBytes) return;
  throw new QxError('NO_SPACE', `${stagingDirectory} needs ${neededBytes} free bytes and has ${freeBytes}`, {
    next: `make room for ${neededBytes - freeBytes} bytes more, then repeat; what was downloaded is kept`,
  });
}

async function fetchOne(ports: FetchPorts, request: FetchRequest, artifact: ArtifactRef): Promise<void> {
  const { source, policy = FETCH_POLICY, signal } = request;
  const part = partOf(request.stagingDirectory, artifact);
  const most = { heldBytes: await usableBytes(ports.files, part) };
  const distrusted = new Set<string>();
  await askEach(ports, { bases: source.bases, policy, signal }, async (base) => {
    const attempt = await fetchFrom(ports, request, artifact, { base, distrusted });
    return attempt.kind === 'later' ? { ...attempt, hasGained: await hasGained(ports.files, part, most) } : attempt;
  });
  const { partPath, etagPath } = part;
  await ports.files.rename(partPath, stagedPath(request.stagingDirectory, artifact));
  await ports.files.remove(etagPath);
  request.onProgress?.({
    artifact: artifact.artifact,
    doneBytes: artifact.size_bytes,
    totalBytes: artifact.size_bytes,
  });
}

/** A line that gained this much between two failures is moving. */
const GAIN_BYTES = 64 << 10;

/** Held against the most that ever was there: who begins anew each time, and breaks off each time, would never be given up. */
async function hasGained(files: Files, part: Part, most: { heldBytes: number }): Promise<boolean> {
  const heldBytes = await usableBytes(files, part);
  if (heldBytes - most.heldBytes < GAIN_BYTES) return false;
  most.heldBytes = heldBytes;
  return true;
}

interface From {
  readonly base: string;
  /** Servers whose answers to ranges did not fit: whole files are asked of them. */
  readonly distrusted: Set<string>;
}

async function fetchFrom(
  ports: FetchPorts,
  request: FetchRequest,
  artifact: ArtifactRef,
  { base, distrusted }: From,
): Promise<Attempt<null>> {
  const { source, manifest, stagingDirectory, limits = WAIT_LIMITS, signal, onProgress } = request;
  const part = partOf(stagingDirectory, artifact);
  const mayResume = !distrusted.has(base);
  const heldBytes = mayResume ? await usableBytes(ports.files, part) : 0;
  const result = await transfer(ports, {
    url: artifactUrl(base, source, manifest.version, artifact.artifact),
    part,
    heldBytes,
    limits,
    signal,
    onBytes: (doneBytes) => onProgress?.({ artifact: artifact.artifact, doneBytes, totalBytes: artifact.size_bytes }),
  });
  if (result.kind === 'restart') {
    distrusted.add(base);
    // Whole files made no sense either: there is nothing left to ask this server for.
    return mayResume ? later(result.error) : never(result.error);
  }
  if (result.kind !== 'done') return result;
  const verified = await verify(ports, request, part, { base, receivedSha256: result.value });
  if (verified === null) return done(null);
  if (heldBytes === 0) return never(verified);
  // What was there before may have been the poison: the same server gets one more chance, with a whole file.
  distrusted.add(base);
  return later(verified);
}

/**
 * What came in one piece was hashed as it came; a part that was there before is read from its first byte. A wrong one is
 * thrown away at once. Whoever uses the file hashes it once more: only that speaks of the bytes that are then used.
 */
async function verify(
  { files, log }: FetchPorts,
  { signal }: FetchRequest,
  { artifact, partPath, etagPath }: Part,
  { base, receivedSha256 }: { readonly base: string; readonly receivedSha256: string | null },
): Promise<QxError | null> {
  const sha256 = receivedSha256 ?? (await files.hash(partPath, signal)).sha256;
  if (sha256 === artifact.sha256) return null;
  await files.remove(partPath);
  await files.remove(etagPath);
  const detail = `${artifact.artifact} from ${base} has SHA-256 ${sha256}, ${artifact.sha256} was signed`;
  log.warn('artifact_refused', { code: 'HASH_MISMATCH', detail, artifact: artifact.artifact });
  return new QxError('HASH_MISMATCH', detail, {
    next: 'these are not the bytes that were signed: tell whoever runs the server or made the bundle; nothing was installed',
  });
}
