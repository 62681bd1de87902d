import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { layHost, openHost, type TestHost, type World } from './agent-host.ts';
import type { KnownImages } from './agent-machine.ts';
import { type MakeRelease, memorySite, type Release, releaseMaker } from './agent-releases.ts';
import { makeImage, type TestImage } from './images.ts';

/** What the tests of the agent's journeys share in one file: images, a host to copy, and releases. */

// Thousands of fsyncs, of which nothing is to be learned here: in memory they cost nothing.
const scratch = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

export interface Bench {
  readonly release: MakeRelease;
  image(version: '1.0.0' | '2.0.0' | '3.0.0'): TestImage;
  known(): KnownImages;
  /** A copy of the host, or of another folder, with what a new process on it has. */
  host(releases?: readonly Release[], world?: Partial<World>, from?: string): Promise<TestHost>;
  /** A folder for a copy, gone when the file is done. */
  folder(): string;
  remove(folder: string): void;
}

export function agentBench(): Bench {
  const top = mkdtempSync(join(scratch, 'quantix-agent-'));
  const images = new Map<string, { image: TestImage; bytes: Uint8Array }>();
  const release = releaseMaker();
  beforeAll(async () => {
    // Small, and yet longer than the first MiB, which is written last.
    for (const version of ['1.0.0', '2.0.0', '3.0.0']) {
      const image = await makeImage(top, version, { fillBytes: 700_000, version });
      images.set(version, { image, bytes: new Uint8Array(await readFile(image.path)) });
    }
    await layHost(join(top, 'plain'), imageOf('1.0.0').bytes);
  });
  afterAll(() => rmSync(top, { recursive: true, force: true }));
  const imageOf = (version: string) => {
    const known = images.get(version);
    if (known === undefined) throw new Error(`no image of ${version}`);
    return known;
  };
  const folder = (): string => mkdtempSync(join(top, 'host-'));
  return {
    release,
    image: (version) => imageOf(version).image,
    known: () => images,
    folder,
    remove: (path) => rmSync(path, { recursive: true, force: true }),
    host: async (releases = [], world = {}, from = join(top, 'plain')) => {
      const root = folder();
      cpSync(from, root, { recursive: true, verbatimSymlinks: true });
      return openHost({ root, site: memorySite(...releases), ...world });
    },
  };
}
