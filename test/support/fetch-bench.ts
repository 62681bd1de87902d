import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type FetchProgress, type FetchRequest, fetchArtifacts } from '../../src/delivery/fetch.ts';
import { sourceOf } from '../../src/delivery/source.ts';
import type { ArtifactRef, Manifest } from '../../src/format/manifest.ts';
import type { Files } from '../../src/ports.ts';
import { hostFiles } from '../../src/system/files.ts';
import { undiciHttp } from '../../src/system/http.ts';
import { type FakeClock, fakeClock, fixedRandom, recordedLog } from './fakes.ts';
import { artifactOf, componentOf, manifestOf } from './keys.ts';
import { temporaryFolder } from './temp.ts';

export const STAGING = '/data/updates/staging';
const LIMITS = { connectTimeoutMs: 500, headersTimeoutMs: 500, minBytesPerWindow: 1_000, windowMs: 300 };

/** Bytes that look like nothing else, the same each time. */
export const noise = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 17 + seed * 101) & 0xff);

export interface FetchBench {
  readonly artifact: ArtifactRef;
  readonly manifest: Manifest;
  readonly partPath: string;
  readonly etagPath: string;
  readonly finalPath: string;
  readonly progress: readonly FetchProgress[];
  readonly clock: FakeClock;
  readonly log: ReturnType<typeof recordedLog>;
  /** A path inside the host as a path of this machine. */
  readonly at: (path: string) => string;
  /** Content of a file of the host, null when it is not there. */
  readonly content: (path: string) => Promise<Uint8Array | null>;
  /** What an earlier run left. */
  readonly leave: (path: string, bytes: Uint8Array | string) => Promise<void>;
  readonly fetch: (
    servers: readonly { readonly url: string }[],
    changes?: Partial<FetchRequest>,
    files?: Files,
  ) => Promise<void>;
}

/** One host that wants one artifact of these bytes, with real files and real sockets. */
export async function fetchBench(
  bytes: Uint8Array,
  wrap: (files: Files) => Files = (files) => files,
): Promise<FetchBench> {
  const root = await temporaryFolder();
  const http = undiciHttp();
  onTestFinished(() => http.close());
  const [clock, log, progress] = [fakeClock(), recordedLog(), [] as FetchProgress[]];
  const artifact = artifactOf('qx-node.tar.zst', bytes);
  const manifest = manifestOf({ components: [componentOf('qx-node', bytes)] });
  const at = (path: string) => join(root, path);
  return {
    artifact,
    manifest,
    partPath: `${STAGING}/${artifact.sha256}.part`,
    etagPath: `${STAGING}/${artifact.sha256}.etag`,
    finalPath: `${STAGING}/qx-node.tar.zst`,
    progress,
    clock,
    log,
    at,
    content: (path) =>
      readFile(at(path)).then(
        (found) => new Uint8Array(found),
        () => null,
      ),
    leave: async (path, content) => {
      await mkdir(at(STAGING), { recursive: true, mode: 0o700 });
      await writeFile(at(path), content, { mode: 0o600 });
    },
    fetch: ([first, ...others], changes = {}, files = wrap(hostFiles(root))) =>
      fetchArtifacts(
        { http, files, clock, random: fixedRandom, log },
        {
          source: sourceOf({
            serverUrl: first?.url ?? '',
            mirrors: others.map((s) => s.url),
            product: 'quantix-os',
            channel: 'dev',
          }),
          manifest,
          artifacts: [artifact],
          stagingDirectory: STAGING,
          onProgress: (step) => void progress.push(step),
          limits: LIMITS,
          ...changes,
        },
      ),
  };
}
