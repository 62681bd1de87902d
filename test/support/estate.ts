import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Manifest } from '../../src/format/manifest.ts';
import { packArchive } from '../../src/system/archive/pack.ts';
import { type HostFolder, hostFolder, qxUpdate, type Ran } from './agent.ts';
import { artifactOf, componentOf, signedManifest, type TestKey } from './keys.ts';
import { type SlowLine, slowLine } from './slow-line.ts';
import { curl } from './update-server.ts';
import { AUTHORIZED, openSite, type Site } from './update-site.ts';

/** A real update server, a host in a folder that takes its releases, and the line between the two. */
export interface Estate {
  readonly site: Site;
  readonly line: SlowLine;
  readonly host: HostFolder;
  /** Publishes components by name and content over the server's own interface. */
  publish(version: string, components: Components, manifest?: Partial<Manifest>): Promise<void>;
  withdraw(version: string): Promise<void>;
  /** Where the server keeps a file of a release: a server that lies is one whose disk was changed. */
  served(version: string, file: string): string;
  /** A signed envelope for these components. */
  sign(version: string, components: Components, options?: SignOptions): Promise<Signed>;
  update(...args: readonly string[]): Promise<Ran>;
  /** Bytes of a file of the host, null when it is not there. */
  read(file: string): Promise<string | null>;
}

export type Components = Readonly<Record<string, string | Uint8Array>>;

interface SignOptions {
  readonly manifest?: Partial<Manifest>;
  readonly key?: TestKey;
}

interface Signed {
  readonly envelope: Uint8Array;
  /** Component -> its archive, in a file. */
  readonly archives: Readonly<Record<string, string>>;
}

export async function openEstate(settings: readonly string[] = []): Promise<Estate> {
  const site = await openSite();
  const line = await slowLine(site.server.url);
  const host = await hostFolder([`server_url: ${line.url}`, 'keyring: /etc/keyring.json', ...settings]);
  await host.write('etc/keyring.json', JSON.stringify(site.keys.keyring));
  const sign: Estate['sign'] = async (version, components, { manifest = {}, key = site.keys.os } = {}) => {
    const archives: Record<string, string> = {};
    const listed: Manifest['components'] = [];
    for (const [name, content] of Object.entries(components)) {
      const path = join(site.folder, `${name}-${version}`);
      await writeFile(path, content, { mode: 0o755 });
      await packArchive(path, `${path}.tar.zst`);
      archives[name] = `${path}.tar.zst`;
      const bytes = new Uint8Array(await readFile(`${path}.tar.zst`));
      listed.push(componentOf(name, bytes, { version, ...artifactOf(`${name}.tar.zst`, bytes) }));
    }
    const signed = await signedManifest({ keys: [key], manifest: { version, components: listed, ...manifest } });
    return { envelope: signed.envelope, archives };
  };
  const api = `${site.api}/quantix-os`;
  return {
    site,
    line,
    host,
    sign,
    publish: async (version, components, manifest = {}) => {
      const { envelope, archives } = await sign(version, components, { manifest });
      await writeFile(join(site.folder, 'envelope.json'), envelope);
      const files = Object.entries(archives).flatMap(([name, path]) => ['-F', `${name}=@${path}`]);
      const fields = ['-F', `manifest=@${join(site.folder, 'envelope.json')}`, ...files];
      const { status, text } = await curl('-X', 'POST', `${api}/publish`, ...AUTHORIZED, ...fields);
      if (status !== 201) throw new Error(`publish of ${version}: ${status} ${text}`);
    },
    withdraw: async (version) => {
      const { status } = await curl('-X', 'DELETE', ...AUTHORIZED, `${api}/releases/${version}`);
      if (status !== 200) throw new Error(`withdrawal of ${version}: ${status}`);
    },
    served: (version, file) => join(site.folder, 'releases/quantix-os/dev', version, file),
    update: (...args) => qxUpdate(host.path, ...args),
    read: (file) => readFile(join(host.path, file), 'utf8').catch(() => null),
  };
}
