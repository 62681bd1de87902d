import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Manifest } from '../../src/format/manifest.ts';
import { CONSOLE_BYTES, IMAGE_BYTES, NODE_BYTES, releaseKeys, signedBy } from './publishing.ts';
import { temporaryFolder } from './temp.ts';
import { type Answer, curl, type RunningServer, startServer, TOKEN } from './update-server.ts';

export const AUTHORIZED: readonly string[] = ['-H', `Authorization: Bearer ${TOKEN}`];

/** A server that trusts test keys, and a folder with files to publish to it by curl. */
export interface Site {
  readonly folder: string;
  readonly server: RunningServer;
  readonly api: string;
  readonly keys: Awaited<ReturnType<typeof releaseKeys>>;
  /** Writes manifest.json, signed, and the files of a full release. */
  writeRelease(manifest?: Partial<Manifest>): Promise<void>;
  /** The curl arguments that send a file of the folder as a part. */
  field(name: string, file: string): string[];
  allFields(): string[];
  publish(...fields: readonly string[]): Promise<Answer>;
}

export async function openSite(environment: Readonly<Record<string, string>> = {}): Promise<Site> {
  const folder = await temporaryFolder();
  const keys = await releaseKeys();
  await writeFile(join(folder, 'keyring.json'), JSON.stringify(keys.keyring));
  const own = { RELEASE_DIR: join(folder, 'releases'), KEYRING: join(folder, 'keyring.json') };
  const server = await startServer({ ...own, ...environment });
  const api = `${server.url}/api/v1`;
  const field = (name: string, file: string): string[] => ['-F', `${name}=@${join(folder, file)}`];
  return {
    folder,
    server,
    api,
    keys,
    field,
    allFields: () => [
      ...field('manifest', 'manifest.json'),
      ...field('qx-node', 'qx-node.tar.zst'),
      ...field('qx-console', 'qx-console.tar.zst'),
      ...field('full_image', 'system.squashfs'),
    ],
    publish: (...fields) => curl('-X', 'POST', `${api}/quantix-os/publish`, ...AUTHORIZED, ...fields),
    async writeRelease(manifest = {}) {
      await writeFile(join(folder, 'manifest.json'), await signedBy(keys.os, manifest));
      await writeFile(join(folder, 'qx-node.tar.zst'), NODE_BYTES);
      await writeFile(join(folder, 'qx-console.tar.zst'), CONSOLE_BYTES);
      await writeFile(join(folder, 'system.squashfs'), IMAGE_BYTES);
    },
  };
}
