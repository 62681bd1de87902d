import type { Plan } from '../core/plan.ts';
import { fetchArtifacts, stagedPath } from '../delivery/fetch.ts';
import { asQxError } from '../errors.ts';
import { type ArtifactRef, artifactsOf } from '../format/manifest.ts';
import type { Host, Watch } from './host.ts';
import { releaseSource } from './source.ts';

/** The artifacts of an update, fetched and verified, on this host's disk. */

/** Fetches what the plan needs and nothing else. @throws QxError NO_SPACE, HASH_MISMATCH, SERVER_UNREACHABLE, CANCELLED */
export async function fetchAll(host: Host, plan: Plan, { signal, progress }: Watch): Promise<void> {
  const artifacts: ArtifactRef[] = [...plan.components, ...(plan.image === null ? [] : [plan.image])];
  const unpackedBytes = plan.components.reduce((sum, c) => sum + (c.unpacked_size_bytes ?? 0), 0);
  await fetchArtifacts(host, {
    source: await releaseSource(host),
    manifest: plan.manifest,
    artifacts,
    stagingDirectory: host.config.stagingDirectory,
    // Unpacked beside what is installed, which for now lies on the same disk.
    reserveBytes: unpackedBytes,
    onProgress: ({ artifact, doneBytes, totalBytes }) =>
      progress?.({ phase: 'downloading', name: artifact, doneBytes, totalBytes }),
    ...(signal === undefined ? {} : { signal }),
  });
}

export const staged = (host: Host, artifact: Pick<ArtifactRef, 'artifact'>): string =>
  stagedPath(host.config.stagingDirectory, artifact);

/** Once an update is in place its downloads are only in the way; that they stay is no reason to call it failed. */
export async function clearStaging(host: Host, plan: Plan): Promise<void> {
  try {
    for (const artifact of artifactsOf(plan.manifest)) await host.files.remove(staged(host, artifact));
  } catch (error) {
    host.log.warn('staging_not_cleared', { detail: asQxError(error).message });
  }
}
